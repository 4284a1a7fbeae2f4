"""Manifold mixup: what is drawn for a batch, and that the network mixes where it is told to."""

import numpy as np
import pytest
import torch
from conftest import config_of, tiny_config

from ltvr import LTVR, plan_synthesis
from ltvr.backbones.build import build_backbone
from ltvr.config.options import NoOptions
from ltvr.data.targets import Targets
from ltvr.engine.step import Step
from ltvr.errors import UserError
from ltvr.losses.cross_entropy import CrossEntropy
from ltvr.mixing.base import Blend
from ltvr.mixing.manifold_mixup import ManifoldMixup, ManifoldMixupOptions
from ltvr.networks.build import build_network

LABELS = torch.tensor([0, 0, 1, 4, 3, 2])
IMAGES = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(3))
PARTNER = torch.tensor([3, 0, 1, 5, 2, 4])


def small(**options):
    torch.manual_seed(0)
    backbone = build_backbone("resnext14_8x4d_slim", "stride2")
    return LTVR(backbone, 5, image_size=32, **options).eval()


def mixed_by_a_hook(module, run):
    """What ``run`` gives where the output of ``module`` is mixed, in NumPy."""

    def mix(_, __, output):
        maps = output.detach().numpy().astype(np.float64)
        return torch.from_numpy(0.3 * maps + 0.7 * maps[PARTNER.numpy()]).float()

    hook = module.register_forward_hook(mix)
    try:
        return run()
    finally:
        hook.remove()


def test_a_batch_is_mixed_as_images_or_after_one_of_the_stages():
    images, counts = torch.randn(8, 3, 4, 4), np.ones(8)
    seen, shares = [], []
    for seed in range(300):
        mixing = ManifoldMixup(ManifoldMixupOptions())
        random = np.random.default_rng(seed)
        mixture = mixing.draw(Targets(torch.arange(8)), counts, 4, random)
        got, targets = mixture.images(images), mixture.targets
        blend = mixture.blend(images.device)
        assert sorted(targets.other.tolist()) == targets.labels.tolist() == list(range(8))
        share = targets.share[0]
        assert (targets.share == share).all()
        if blend is None:
            expected = share * images + (1 - share) * images[targets.other]
            torch.testing.assert_close(got, expected)
        else:
            assert torch.equal(got, images) and blend.share == share
            assert torch.equal(blend.partner, targets.other)  # the labels were 0 to 7
        seen.append(0 if blend is None else blend.after)
        shares.append(float(share))
    assert np.bincount(seen).min() > 70 and set(seen) == {0, 1, 2}  # of 100 each
    assert abs(np.mean(shares) - 0.5) < 0.05 and abs(np.var(shares) * 12 - 1) < 0.2


def test_the_share_is_drawn_by_alpha():
    """The variance of Beta(a, a) is 1 / (4 (2 a + 1)): at a = 0.2 twice that of a = 1."""
    mixing = ManifoldMixup(ManifoldMixupOptions(manifold_mixup_alpha=0.2))
    random, targets = np.random.default_rng(0), Targets(torch.arange(2))
    drawn = [
        float(mixing.draw(targets, np.ones(2), 4, random).targets.share[0]) for _ in range(900)
    ]
    assert np.var(drawn) * 4 * 1.4 == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("after", [1, 2, 3])
def test_the_network_mixes_the_maps_after_a_stage(after):
    network, plan = small(backend="reference"), plan_synthesis(LABELS, seed=0, step=0)
    assert network.stages == ("layer1", "layer2", "layer3")
    stage = network.extractor.get_submodule(f"layer{after}")
    for given in (None, plan):
        expected = mixed_by_a_hook(stage, lambda g=given: network.outputs(IMAGES, g).logits)
        blend = Blend(PARTNER, torch.tensor(0.3), after)
        torch.testing.assert_close(network.outputs(IMAGES, given, blend).logits, expected)
        assert not torch.allclose(network.outputs(IMAGES, given).logits, expected, atol=1e-3)


def test_without_a_decomposition_every_stage_may_be_mixed_after():
    network = small(insert_after=None)
    assert network.stages == ("layer1", "layer2", "layer3", "layer4")
    expected = mixed_by_a_hook(network.embedder.layer4, lambda: network(IMAGES))
    blend = Blend(PARTNER, torch.tensor(0.3), 4)
    torch.testing.assert_close(network.outputs(IMAGES, None, blend).logits, expected)


def test_stages_that_timm_keeps_in_a_sequence_are_found():
    pytest.importorskip("timm")
    config = config_of(backbone="timm:test_convnext", image_size=32, insert_after="stages.1")
    network = build_network(config, 5, "reference").eval()
    for after, half in ((2, network.extractor), (4, network.embedder)):
        expected = mixed_by_a_hook(
            half.get_submodule(f"stages.{after - 1}"), lambda: network(IMAGES)
        )
        blend = Blend(PARTNER, torch.tensor(0.3), after)
        torch.testing.assert_close(network.outputs(IMAGES, None, blend).logits, expected)


def test_a_step_that_mixes_maps_compiles_whole():
    module = Step(small(backend="reference"), CrossEntropy(NoOptions(), torch.ones(5)))
    targets = Targets(LABELS, LABELS[PARTNER], torch.full((6,), 0.3))
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    for after in (1, 2):
        blend = Blend(PARTNER, torch.tensor(0.3), after)
        weights = list(module.network.extractor.parameters())
        expected, got = (
            torch.autograd.grad(step(IMAGES, targets, None, blend).values.sum(), weights)
            for step in (module, compiled)
        )
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_maps_are_mixed_before_the_decomposition_or_not_at_all():
    mixing = ManifoldMixup(ManifoldMixupOptions(manifold_mixup_stages=2))
    config = tiny_config(mixing="manifold-mixup", insert_after="layer1")
    network = build_network(config, 10, "reference")
    with pytest.raises(UserError, match=r"manifold_mixup_stages = 2: .* at most 1, .*\(layer1\)"):
        mixing.check(network.stages)
    mixing.check(small(insert_after=None).stages)
