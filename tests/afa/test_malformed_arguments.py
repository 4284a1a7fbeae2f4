"""Malformed arguments of the public functions of AFA: each a ValueError or TypeError of one line.

``malformed`` makes calls with one argument replaced by something that is not one. A seeded sample
of them runs here, and all with ``LTVR_FUZZ=100000``.
"""

from __future__ import annotations

import functools
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from operators import INTERPRETED
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from ltvr import AFA, LTVR, SynthesisPlan, plan_synthesis
from ltvr.afa import functional, ops, reference
from ltvr.afa.planning import most_generated
from ltvr.afa.planning_reference import plan_synthesis_reference
from ltvr.decompositions.base import Decomposition

SAMPLE = int(os.environ.get("LTVR_FUZZ", "400"))
BACKENDS = ["reference", "auto", *(["cpp"] if ops.extension_available() else [])]
if INTERPRETED:
    BACKENDS.append("triton")
CPU = torch.device("cpu")
LABELS = torch.tensor([0, 0, 2, 1])
NOT_TENSORS = (None, 3, 1.5, "x", [1.0], np.zeros((4, 8, 2, 3)), nn.Identity())

with FakeTensorMode():
    ELSEWHERE = torch.zeros(4, 8, 2, 3, device="cuda")


class Parts(Decomposition):
    """A decomposition that has nothing but its base."""

    def decompose(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 0.25 * x, 0.75 * x


# ---- What is malformed -------------------------------------------------------------------------


def choices(valid: str) -> list[Any]:
    wrong = [
        "x",
        "",
        valid.upper(),
        f"{valid} ",
        f"{valid}\n",
        None,
        3,
        1.5,
        math.nan,
        True,
        [],
        {},
    ]
    return [*wrong, (valid,), (), [valid], valid.encode(), np.array([valid]), torch.zeros(2)]


def flags(_: bool) -> list[Any]:
    return [None, 0, 1, 1.0, math.nan, "yes", "", [], torch.tensor(True), np.zeros(3)]


def factors(_: float) -> list[Any]:
    wrong = [math.nan, math.inf, -math.inf, -1, -1e-9, 1e300, 10**400, -(10**400), True, 1j, "one"]
    return [
        *wrong,
        "",
        b"1",
        None,
        [],
        [1.0],
        {},
        object(),
        np.ones(2),
        torch.ones(2),
        torch.ones(()),
    ]


def integers(_: int) -> list[Any]:
    wrong = [
        -1,
        2**63,
        10**30,
        -(10**30),
        1.5,
        2.0,
        math.nan,
        math.inf,
        True,
        "one",
        "",
        b"1",
        None,
    ]
    return [*wrong, [], [1], {}, object(), np.ones(2, np.int64), torch.ones(2, dtype=torch.int64)]


def sizes(valid: int) -> list[Any]:
    return [*integers(valid), 0, 2**40]


def signed(valid: int) -> list[Any]:
    return [v for v in integers(valid) if not isinstance(v, int) or isinstance(v, bool) or v > 0]


def tensors(valid: Tensor) -> list[Any]:
    """What is not a dense floating tensor of this shape, dtype and device."""
    wrong = [*NOT_TENSORS, valid.to_sparse(), valid.to(torch.complex64), valid.bool()]
    wrong += [valid.to(torch.int64), valid.double(), valid.to("meta"), valid[None]]
    wrong += [valid.sum(), ELSEWHERE, nested(valid)]
    for axis, size in enumerate(valid.shape):
        wrong += [valid.narrow(axis, 0, 0), valid.narrow(axis, 0, size - 1)]
        wrong += [valid.repeat_interleave(2, axis)]
    return wrong


def plans(valid: SynthesisPlan) -> list[Any]:
    """Plans of another batch or device, and plans that were tampered with."""
    wrong = [*NOT_TENSORS, tuple(valid), valid.to("meta"), valid.class_index]
    wrong += [plan_synthesis_reference(LABELS[:n], seed=0, step=0) for n in (0, 1, 2, 3)]
    wrong += [plan_synthesis_reference(LABELS.repeat(2), seed=0, step=0)]
    wrong += [plan_synthesis_reference(LABELS[:3], seed=0, step=0).padded(9)]
    return wrong + tampered(valid)


def tampered(valid: SynthesisPlan) -> list[SynthesisPlan]:
    wrong = []
    chance = random.Random(0)
    for name, part in valid._asdict().items():
        wrong += [valid._replace(**{name: bad}) for bad in (*NOT_TENSORS, part.float())]
        others = part.int(), part[:-1], part[:0], part[None], part.repeat(2), part.sum()
        others += part.to("meta"), part.to_sparse(), ELSEWHERE
        wrong += [valid._replace(**{name: other}) for other in others]
        if name == "labels":
            continue
        for bad in (-1, len(part), 2**31, 2**62, -(2**63), 2**63 - 1):
            changed = part.clone()
            changed[chance.randrange(len(part))] = bad
            wrong.append(valid._replace(**{name: changed}))
        if name.endswith(("offsets", "rows")):
            wrong.append(valid._replace(**{name: part.flip(0)}))
    return wrong


def labels(valid: Tensor) -> list[Any]:
    wrong = [*NOT_TENSORS, valid.float(), valid.bool(), valid.to(torch.complex64), valid[None]]
    wrong += [valid.sum(), -1 - valid, valid.to("meta"), valid.to_sparse(), valid.to(torch.uint16)]
    return [*wrong, ELSEWHERE, nested(valid)]


def nested(tensor: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are a prototype
        return torch.nested.nested_tensor([tensor, tensor])


# ---- The calls ---------------------------------------------------------------------------------


class Malformed(NamedTuple):
    """A call with one argument that is not one."""

    function: Callable[..., Any]
    arguments: dict[str, Any]
    changed: str

    def __call__(self) -> None:
        self.function(**self.arguments)

    def __str__(self) -> str:
        name = getattr(self.function, "__qualname__", repr(self.function))
        return f"{name}({self.changed}={' '.join(repr(self.arguments[self.changed]).split())[:80]})"


def each(
    function: Callable[..., Any],
    arguments: dict[str, Any],
    kinds: dict[str, Callable[[Any], list[Any]]],
) -> Iterator[Malformed]:
    """``function`` with its arguments, each in turn replaced by all that is wrong for its kind."""
    function(**arguments)  # if this were refused, a refusal would say nothing
    for changed, kind in kinds.items():
        for bad in kind(arguments[changed]):
            yield Malformed(function, arguments | {changed: bad}, changed)


def positional(function: Callable[..., Any], *names: str) -> Callable[..., Any]:
    """``function`` with the arguments of these names passed by position."""

    @functools.wraps(function)
    def call(**arguments: Any) -> Any:
        first = [arguments.pop(name) for name in names]
        return function(*first, **arguments)

    return call


def malformed() -> list[Malformed]:
    torch.manual_seed(0)
    x, plan = torch.randn(4, 8, 2, 3), plan_synthesis_reference(LABELS, seed=0, step=0)
    names = ("w_q", "w_k", "w_v", "w_1", "w_2")
    found: list[Malformed] = []

    # The equations, by every backend.
    for projection, size in (("linear", 6), ("conv1x1", 8)):
        shapes = [(size, size)] * 3 + [(2, 8), (8, 2)]
        weights = {name: torch.randn(shape) for name, shape in zip(names, shapes, strict=True)}
        options = {"mask_axis": "spatial", "mask_gain": 2.0, "projection": projection}
        wrong_options = {"mask_axis": choices, "mask_gain": factors, "projection": choices}
        wrong_weights = dict.fromkeys(names, tensors)
        # A batch of another size is right where there is no plan.
        alone = {"x": functools.partial(features, projection=projection, batch=None)}
        kinds = wrong_options | wrong_weights
        common = {"x": x, **weights, **options}
        for function in (reference.decompose, reference.decomposition_mask):
            found += each(positional(function, "x", *names), common, kinds | alone)
        generation = {"plan": plans, "attention_addition": flags}
        generation["x"] = functools.partial(features, projection=projection, batch=4)
        whole = common | {"plan": plan, "attention_addition": True}
        augment = positional(reference.augment, "x", *names, "plan")
        found += each(augment, whole, kinds | generation)
        for backend in BACKENDS:
            chosen = {"backend": backend}
            for function in (functional.enhance, functional.decompose):
                found += each(positional(function, "x", *names), common | chosen, kinds | alone)
            augment = positional(functional.augment, "x", *names, "plan")
            found += each(augment, whole | chosen, kinds | generation)
        found += each(augment, whole | {"backend": "auto"}, {"backend": choices})

    q, s = x.flatten(2), torch.rand(4, 8, 1)
    attention = positional(reference.channel_attention, "q", "k", "v")
    found += each(attention, {"q": q, "k": q, "v": q}, dict.fromkeys("qkv", tensors))
    index = {"class_index": plan.class_index, "variation_index": plan.variation_index}
    split = {"x": q, "x_att": q, "s": s, "v": q, **index, "mask_axis": "channel"}
    split |= {"mask_gain": 1.0, "attention_addition": True}
    wrong_index = dict.fromkeys(index, indices)
    options = {"mask_axis": choices, "mask_gain": factors, "attention_addition": flags}
    parts = dict.fromkeys(("x", "x_att", "s", "v"), of_another_shape)
    found += each(reference.split_and_generate, split, parts | wrong_index | options)
    empty_rows = {"attention_addition": lambda _: [False]}
    found += each(reference.split_and_generate, split | {"x": None}, empty_rows)
    device = {"backend": "auto", "device": torch.device("cpu")}
    devices = {"device": lambda _: [None, 3, "cpu", "nonsense"], "backend": choices}
    found += each(functional.resolve_backend, device, devices)

    # The plan.
    arguments = {"labels": LABELS, "gamma": 1.0, "alpha": 4.0, "seed": 0, "step": 0}
    arguments["groups"] = 2
    numbers = {"gamma": factors, "alpha": alphas, "seed": signed, "step": integers}
    numbers["groups"] = lambda valid: [*integers(valid), 0]
    for function in (plan_synthesis, plan_synthesis_reference):
        found += each(positional(function, "labels"), arguments, {"labels": labels} | numbers)
    rows = {"plan": plan, "rows": 20}
    wrong_rows = {"rows": lambda valid: [*integers(valid), 3, 2**40], "plan": plans_alone}
    found += each(positional(SynthesisPlan.padded, "plan", "rows"), rows, wrong_rows)
    nowhere = {"device": lambda _: ["", "nonsense", "cuda:99", "cpu:x", 1.5, [], "xpu"]}
    moved = positional(SynthesisPlan.to, "plan", "device")
    found += each(moved, {"plan": plan, "device": "cpu"}, nowhere | {"plan": plans_alone})
    most = {"batch": 4, "gamma": 1.0, "classes": 3}
    found += each(most_generated, most, {"batch": integers, "gamma": factors, "classes": integers})

    # The module.
    built = {"channels": 8, "spatial": (2, 3), "attention_addition": True, "backend": "auto"}
    built |= {"projection": "linear", "mask_axis": "spatial", "mask_mean": 0.5, "reduction": 4}
    built |= {"initialisation": "identity", "value_scale": 1.0, "attention_scale": 1.0}
    kinds = dict.fromkeys(("projection", "mask_axis", "initialisation", "backend"), choices)
    kinds |= dict.fromkeys(("value_scale", "attention_scale"), factors)
    kinds |= {"channels": sizes, "reduction": lambda valid: [*sizes(valid), 9], "spatial": spatials}
    kinds |= {"attention_addition": flags, "mask_mean": lambda valid: [0.0, *means(valid)]}
    found += each(AFA, built, kinds)
    found += [Malformed(AFA, built | {"axis": 1}, "axis")]
    for backend in BACKENDS:
        for built_for in ("linear", "conv1x1"):
            afa = AFA(8, (2, 3), reduction=4, projection=built_for, backend=backend)
            alone = {"x": functools.partial(features, projection=built_for, batch=None)}
            for method in (afa.forward, afa.decompose, afa.mask):
                found += each(method, {"x": x}, alone)
            found += of_decomposition(afa, x, plan, built_for)
    found += of_decomposition(Parts(), x, plan, None)

    # The network, as far as its arguments are those of AFA.
    network = LTVR(tiny_backbone(), 3, "layer1", image_size=8, reduction=4)
    images = torch.randn(4, 3, 8, 8)
    batch = {"images": images, "plan": plan}
    found += each(network.outputs, batch, {"plan": lambda valid: plans(valid)[1:]})
    backbone = {"backbone": tiny_backbone(), "num_classes": 3, "insert_after": "layer1"}
    backbone |= {"image_size": 8, "mask_axis": "spatial", "reduction": 4, "backend": "auto"}
    kinds = {"mask_axis": choices, "reduction": sizes, "backend": choices}
    found += each(LTVR, backbone, kinds)
    return found


def of_decomposition(
    decomposition: Decomposition, x: Tensor, plan: SynthesisPlan, projection: str | None
) -> Iterator[Malformed]:
    """``generate`` and ``augment``, of a projection or of no weights at all."""
    wrong = functools.partial(features, projection=projection, batch=4)
    yield from each(decomposition.generate, {"x": x, "plan": plan}, {"x": wrong, "plan": plans})
    arguments = {"x": x, "labels": LABELS, "gamma": 1.0, "alpha": 4.0, "seed": 0, "step": 0}
    kinds: dict[str, Callable[[Any], list[Any]]] = {"x": wrong}
    if projection is None:  # without weights, x of any device will do
        kinds = {"x": lambda valid: [t for t in wrong(valid) if getattr(t, "device", CPU) == CPU]}
    kinds |= {"labels": lambda valid: [*labels(valid), valid[:2], valid[:0]]}
    kinds |= {"gamma": factors, "alpha": alphas, "seed": signed, "step": integers}
    yield from each(decomposition.augment, arguments, kinds)


def indices(valid: Tensor) -> list[Any]:
    wrong = [*NOT_TENSORS, valid.float(), valid.int(), valid[:-1], valid[None], valid.to("meta")]
    return [*wrong, valid - 4, valid + 4, valid + 2**62, valid.to_sparse(), ELSEWHERE]


def alphas(valid: float) -> list[Any]:
    return [bad for bad in factors(valid) if not (isinstance(bad, float) and bad == 1e300)]


def means(valid: float) -> list[Any]:
    return [bad for bad in factors(valid) if bad is not None]


def spatials(_: tuple[int, int]) -> list[Any]:
    wrong = [None, 3, 1.5, "23", (), (2,), (2, 3, 4), (0, 3), (2, -1), (2.0, 3), ("2", "3")]
    return [*wrong, (2, None), (2**40, 1), (2**62, 2**62), (math.nan, 1), (True, 2), [2, [3]]]


def plans_alone(valid: SynthesisPlan) -> list[Any]:
    """Tampered plans, where a plan of any batch is right."""
    return tampered(valid)


def features(valid: Tensor, projection: str | None, batch: int | None) -> list[Any]:
    """What is wrong for x: of any number of samples, positions or channels where that is free."""

    def right(x: Any) -> bool:
        if not isinstance(x, Tensor) or x.is_nested or x.layout != torch.strided or x.dim() != 4:
            return False
        sizes = [batch, *((8, 2, 3) if projection == "linear" else (8, None, None))]
        dtypes = (torch.float32,)
        if projection is None:
            sizes, dtypes = [batch, None, None, None], (torch.float32, torch.float64)
        fits = all(s in (None, n) for s, n in zip(sizes, x.shape, strict=True))
        return fits and all(x.shape[1:]) and x.dtype in dtypes and x.device == CPU

    return [x for x in tensors(valid) if not right(x)]


def of_another_shape(valid: Tensor) -> list[Any]:
    """What is wrong where any floating dtype will do, and None as well."""

    def right(x: Any) -> bool:
        if not isinstance(x, Tensor) or x.is_nested or x.layout != torch.strided:
            return x is None
        return x.shape == valid.shape and x.device == CPU and x.is_floating_point()

    return [x for x in tensors(valid) if not right(x)]


def tiny_backbone() -> nn.Module:
    backbone = nn.Sequential()
    backbone.add_module("layer1", nn.Conv2d(3, 8, 3, stride=4))
    backbone.add_module("pool", nn.AdaptiveAvgPool2d(1))
    backbone.fc = nn.Linear(8, 2)
    return backbone


def test_each_is_refused_in_one_line():
    calls = malformed()
    sample = random.Random(0).sample(calls, min(SAMPLE, len(calls)))
    failed = []
    for call in sample:
        try:
            call()
        except (ValueError, TypeError) as error:
            if len(str(error).splitlines()) != 1:
                failed.append(f"{call}: {error}")
        except Exception as error:
            failed.append(f"{call}: {type(error).__name__}: {str(error)[:100]}")
        else:
            failed.append(f"{call}: accepted")
    assert not failed, f"{len(failed)} of {len(sample)}:\n" + "\n".join(failed[:40])
