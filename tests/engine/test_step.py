"""The step module: rows of loss from images, targets and plan, whole under ``torch.compile``."""

import pytest
import torch
from torch._dynamo.backends.common import aot_autograd
from torch._functorch.aot_autograd import make_boxed_func

from ltvr import LTVR, plan_synthesis
from ltvr.afa import ops
from ltvr.backbones.build import build_backbone
from ltvr.clock import Clock
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.engine.step import Step
from ltvr.losses.base import Divisors
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.stages.features import lay_back_loss

LABELS = torch.tensor([0, 0, 1, 4, 3, 2])
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))


def step_module(**options):
    torch.manual_seed(0)
    backbone = build_backbone("resnext14_8x4d_slim", "stride2")
    network = LTVR(backbone, 5, image_size=32, **options)
    return Step(network, CrossEntropy(NoOptions(), torch.ones(5)))


def loss_and_gradients(step, module, plan, targets=None):
    """Of a step, compiled or not, on the parameters of ``module``."""
    rows = step(IMAGES, targets or Targets(LABELS), plan)
    loss = lay_back_loss(rows.values, rows.weights, 6, Divisors.of(rows.weights, 6), 2.0)
    return loss.total.detach(), *torch.autograd.grad(loss.total, list(module.parameters()))


def mixed_targets():
    return Targets(LABELS, LABELS.flip(0), torch.full((6,), 0.3))


@pytest.mark.skipif(not ops.extension_available(), reason="the C++ extension is not built")
@pytest.mark.parametrize("targets", [None, mixed_targets()], ids=["one label", "two labels"])
def test_a_training_step_compiles_whole(targets):
    module, plan = step_module(backend="cpp"), plan_synthesis(LABELS, seed=0, step=0)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    expected, got = (loss_and_gradients(step, module, plan, targets) for step in (module, compiled))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


@pytest.fixture
def triton_of_nothing(monkeypatch):
    """The operators of a GPU on the CPU, with whatever in their outputs."""
    monkeypatch.setattr(ops, "require_triton", lambda _: None)
    monkeypatch.setattr(ops, "kernels", lambda *_: ops.Kernels(torch.ops.ltvr, absorbs=True))
    library = torch.library.Library("ltvr", "IMPL")
    for name, made in (
        ("augment", ops._augment_fake),
        ("augment_backward", ops._augment_backward_fake),
    ):
        library.impl(name, made, "CPU")
    yield
    library._destroy()


def test_a_training_step_of_a_gpu_is_two_graphs_that_hold_all_of_it(triton_of_nothing):
    """One forward, one backward: what a CUDA graph of the whole step would be made of."""
    graphs = []

    def keep(module, _):
        graphs.append([str(n.target) for n in module.graph.nodes if n.op == "call_function"])
        return make_boxed_func(module.forward)

    module, plan = step_module(backend="triton"), plan_synthesis(LABELS, seed=0, step=0).padded(12)
    backend = aot_autograd(fw_compiler=keep, bw_compiler=keep)
    loss_and_gradients(torch.compile(module, fullgraph=True, backend=backend), module, plan)
    ours = [[target for target in graph if target.startswith("ltvr.")] for graph in graphs]
    assert ours == [["ltvr.augment.default"], ["ltvr.augment_backward.default"]]
    for name in ops.ABSORBED:
        assert torch.Tag.cudagraph_unsafe not in getattr(torch.ops.ltvr, name).default.tags


def test_a_padded_plan_changes_no_loss():
    module = step_module()
    module.eval()  # rows do not meet in BatchNorm
    plan = plan_synthesis(LABELS, seed=0, step=0)
    expected, got = (
        loss_and_gradients(module, module, each) for each in (plan, plan.padded(plan.generated + 3))
    )
    torch.testing.assert_close(got, expected)


def test_a_generated_row_is_classified_as_the_sample_of_its_class_part():
    module, plan = step_module().eval(), plan_synthesis(LABELS, seed=0, step=0)
    plan = plan.padded(plan.generated + 2)
    targets = mixed_targets().augmented(plan)
    real = plan.labels >= 0
    i = plan.class_index[real]
    assert targets.labels[6:][real].tolist() == LABELS[i].tolist()
    assert targets.other[6:][real].tolist() == LABELS.flip(0)[i].tolist()
    rows = module(IMAGES, mixed_targets(), plan)
    assert not rows.weights[-2:].any() and not rows.values[-2:].any()
    logits = module.network.outputs(IMAGES, plan).logits
    log_p = logits.log_softmax(1)
    for row, (a, b) in enumerate(zip(targets.labels, targets.other, strict=True)):
        if a >= 0:
            expected = -(0.3 * log_p[row, a] + 0.7 * log_p[row, b])
            torch.testing.assert_close(rows.values[row], expected)
            hits = (0.3 * (logits[row].argmax() == a) + 0.7 * (logits[row].argmax() == b)).item()
            assert rows.correct[row].item() == pytest.approx(hits)


def test_classifier_and_loss_see_epochs_and_embeddings(monkeypatch):
    module, seen = step_module(), []
    classifier = module.network.classifier
    for part in (classifier, module.loss):
        monkeypatch.setattr(part, "begin_epoch", lambda clock, *lr: seen.append((clock.epoch, *lr)))
    monkeypatch.setattr(
        classifier,
        "observe",
        lambda x, targets, real: seen.append((x.shape, x.requires_grad, real)),
    )
    module.begin_epoch(Clock(0, "features", epochs=2, steps=1, epoch=1), 0.5)
    module(IMAGES, Targets(LABELS), None)
    assert seen == [(1,), (1, 0.5), (torch.Size([6, 512]), False, 6)]
