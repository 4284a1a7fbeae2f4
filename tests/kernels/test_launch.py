"""What the host keeps between launches: no kernel may run on arguments that it was not made for."""

import gc
import weakref

import pytest
import torch

launching = pytest.importorskip("ltvr.kernels.launch")


class Compiled:
    """Stands for a kernel that Triton compiled; keeps what it is launched on."""

    def __init__(self):
        self.launches = []

    def __getitem__(self, grid):
        return lambda *arguments: self.launches.append((grid, arguments))


class Kernel:
    """Stands for a kernel of two tensors, a float and two constants; compiles at every call."""

    arg_names = ("x_ptr", "y_ptr", "gain", "D", "N")

    def __init__(self):
        self.arg_names = list(self.arg_names)
        self.made = []

    def __getitem__(self, grid):
        def compile_and_run(**named):
            self.made.append(named)
            return Compiled()

        return compile_and_run


@pytest.fixture
def kernel(monkeypatch):
    monkeypatch.setattr(launching, "JITFunction", Kernel)
    monkeypatch.setattr(launching, "CompiledKernel", Compiled)
    return Kernel()


def test_a_compiled_kernel_is_launched_with_all_its_arguments_in_order(kernel):
    launch = launching.Launch(kernel, N=4, D=8, num_warps=2)
    x, y = torch.zeros(4), torch.ones(4)
    launch((3,), x_ptr=x, y_ptr=y, gain=1.5)
    launch((5, 6), x_ptr=y, y_ptr=x, gain=2.5)
    assert kernel.made == [{"x_ptr": x, "y_ptr": y, "gain": 1.5, "N": 4, "D": 8, "num_warps": 2}]
    (compiled,) = launch._compiled.values()
    ((grid, arguments),) = compiled.launches
    assert tuple(grid[:3]) == (5, 6, 1)
    assert arguments[0] is y and arguments[1] is x and arguments[2:] == (2.5, 8, 4)


def test_other_kinds_of_arguments_have_kernels_of_their_own(kernel):
    launch = launching.Launch(kernel, D=8, N=4)
    memory = torch.zeros(64)
    kinds = (
        {"x_ptr": memory, "y_ptr": memory},
        {"x_ptr": memory[1:], "y_ptr": memory},  # four bytes behind a multiple of 16
        {"x_ptr": memory, "y_ptr": memory[1:]},
        {"x_ptr": memory.double(), "y_ptr": memory},
        {"x_ptr": None, "y_ptr": memory},
        {"x_ptr": memory, "y_ptr": None},
    )
    for _ in range(2):
        for kind in kinds:
            launch((1,), **kind, gain=1.0)
        launch((1,), x_ptr=memory[4:], y_ptr=memory, gain=1.0)  # 16 bytes further: as the first
    assert len(kernel.made) == len(kinds)


def test_arguments_in_another_order_are_refused(kernel):
    launch = launching.Launch(kernel, D=8, N=4)
    with pytest.raises(AssertionError, match="order"):
        launch((1,), y_ptr=None, x_ptr=None, gain=1.0)


def test_what_is_kept_is_of_one_kind_of_tensor_and_holds_none(monkeypatch):
    made = []

    @launching.kept
    def shape_of(x, option):
        made.append((x.shape, x.dtype, launching.dot_precision(x), option))
        return made[-1]

    x = torch.zeros(2, 3)
    setting = torch.backends.cuda.matmul.fp32_precision
    try:
        for kind in (x, x, x.half(), x[:1], x, x.half()):
            assert shape_of(kind, True)[:2] == (kind.shape, kind.dtype)
        shape_of(x, False)
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        assert shape_of(x, True)[2] == "ieee"
        monkeypatch.setattr(launching, "_capability", lambda _: 120)
        shape_of(x.half(), True)
    finally:
        torch.backends.cuda.matmul.fp32_precision = setting
    assert len(made) == len(set(made)) + 1 == 6  # the last is of another GPU alone
    gone = weakref.ref(x)
    del x, kind
    gc.collect()
    assert gone() is None
