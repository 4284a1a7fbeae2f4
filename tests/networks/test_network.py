"""The network: where the decomposition sits, and what comes after it."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny_config

import ltvr.export
from ltvr import LTVR, plan_synthesis
from ltvr.backbones.build import build_backbone
from ltvr.errors import UserError
from ltvr.networks.build import build_network
from ltvr.networks.cut import LastMap


def small(insert_after="layer3", name="resnext14_8x4d_slim", **options):
    torch.manual_seed(0)
    return LTVR(build_backbone(name, "stride2"), 5, insert_after, image_size=32, **options)


def test_inference_is_backbone_with_enhanced_features():
    model, x = small().eval(), torch.randn(2, 3, 32, 32)
    assert model.decomposition.w_q.shape == (16, 16) and model.decomposition.channels == 256
    expected = model.classifier(model.embedder(model.decomposition(model.extractor(x))))
    torch.testing.assert_close(model(x), expected)


def test_baseline_is_torchvisions_own_network():
    torch.manual_seed(0)
    backbone = build_backbone("resnet18", "cifar").eval()
    x = torch.randn(2, 3, 32, 32)
    backbone.fc = torch.nn.Linear(512, 5)
    expected = backbone(x)
    model = LTVR(backbone, 5, None, image_size=32).eval()
    model.classifier.load_state_dict(backbone.fc.state_dict())
    torch.testing.assert_close(model(x), expected)


@pytest.mark.parametrize("insert_after", ["layer1", "layer2", "layer3", "layer4"])
def test_any_stage_trains_real_and_generated_rows(insert_after):
    model, labels = small(insert_after), torch.tensor([0, 0, 1, 4])
    plan = plan_synthesis(labels, seed=0, step=0)
    logits = model.outputs(torch.randn(4, 3, 32, 32), plan).logits
    assert logits.shape == (4 + plan.generated, 5)
    F.cross_entropy(logits, torch.cat([labels, plan.labels])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("after", ["layer1", "layer3", "layer4", "layer9"])
def test_maps_pass_the_last_stage_once_before_they_are_pooled(after):
    config = tiny_config(method="baseline", insert_after=after)
    network, seen = build_network(config, 5, "reference"), []
    assert sum(isinstance(part, LastMap) for part in network.modules()) == 1
    network.last_map.append(torch.nn.Conv2d(512, 512, 1))
    network.last_map.register_forward_hook(lambda _, given, out: seen.append(out))
    embeddings = network.outputs(torch.randn(2, 3, 16, 16)).embeddings
    assert seen[0].shape[1:] == network.last_map.shape == (512, 1, 1)
    torch.testing.assert_close(embeddings, seen[0].mean((2, 3)))


def test_an_embedding_layer_is_what_the_classifier_reads():
    plain, deep = (
        build_network(tiny_config(method="baseline", embedding_layer=n), 5, "reference").eval()
        for n in (0, 7)
    )
    added = deep.state_dict().keys() - plain.state_dict().keys()
    assert added == {f"embedder.embedding_layer.0.{name}" for name in ("weight", "bias")}
    pooled = {k: v for k, v in deep.state_dict().items() if "layer.0.bias" not in k}
    layer = deep.embedder.embedding_layer[0]
    plain.load_state_dict(
        {k: pooled[k] for k in plain.state_dict() if "classifier" not in k}, False
    )
    x = torch.randn(4, 3, 16, 16)
    embeddings = deep.outputs(x).embeddings
    expected = plain.outputs(x).embeddings @ layer.weight.T + layer.bias
    torch.testing.assert_close(embeddings, expected.clamp(min=0))
    torch.testing.assert_close(deep(x), deep.classifier(embeddings))
    assert (embeddings == 0).any() and (embeddings > 0).any()


def test_logits_are_of_float32_under_autocast():
    """In bfloat16 1.003 and 1 are the same number, and the lower label would win."""
    network = build_network(tiny_config(method="baseline"), 2, "reference").eval()
    with torch.no_grad():
        network.classifier.weight.zero_()
        network.classifier.bias.copy_(torch.tensor([1.0, 1.003]))
        with torch.autocast("cpu", torch.bfloat16):
            outputs = network.outputs(torch.randn(4, 3, 16, 16))
    assert outputs.embeddings.dtype == torch.bfloat16  # the rest is in half precision
    assert outputs.logits.dtype == torch.float32 and (outputs.logits.argmax(1) == 1).all()


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="built for 32x32"):
        small()(torch.zeros(1, 3, 40, 40))
    with pytest.raises(ValueError, match="insert_after = 'layer9'"):
        small("layer9")
    with pytest.raises(ValueError, match="no decomposition"):
        small(None).masks(torch.zeros(1, 3, 32, 32))


def test_generated_rows_with_statistics_of_their_own():
    """Real rows, and the running statistics, are then as if nothing were generated."""
    torch.manual_seed(0)
    config = tiny_config(generated_batchnorm="own")
    network = build_network(config, 10, "reference").train()
    plain = copy.deepcopy(network)
    images, labels = torch.randn(8, 3, 16, 16), torch.arange(8) % 3
    plan = plan_synthesis(labels, seed=0, step=0)
    found, alone = network.outputs(images, plan), plain.outputs(images)
    torch.testing.assert_close(found.embeddings[:8], alone.embeddings)
    for own, other in zip(network.buffers(), plain.buffers(), strict=True):
        if own.is_floating_point():
            assert torch.equal(own, other)
    plain.own_statistics = False
    joint = plain.outputs(images, plan)
    assert not torch.allclose(joint.embeddings[:8], alone.embeddings)
    assert len(found.logits) == len(joint.logits) == 8 + plan.generated


def test_one_generated_row_alone_has_statistics_even_of_one_position():
    """Its variance is then 0, so that what normalises it leaves the shift alone."""
    config = tiny_config(generated_batchnorm="own")  # 1x1 maps at its end
    network = build_network(config, 10, "reference").train()
    plan = plan_synthesis(torch.zeros(4, dtype=torch.int64), gamma=0.25, seed=0, step=0)
    assert plan.generated == 1
    found = network.outputs(torch.randn(4, 3, 16, 16), plan)
    assert len(found.logits) == 5 and found.logits.isfinite().all()


def test_an_export_whose_logits_are_no_numbers_is_refused(tmp_path, monkeypatch):
    """Whichever of the batch sizes it is that goes wrong."""

    def writes(network, inputs, batch, path, about):
        path.write_text("")
        return lambda images: network(images) * (float("nan") if len(images) == 1 else 1)

    monkeypatch.setattr(ltvr.export, "_write_torch", writes)
    with pytest.raises(UserError, match="would differ by nan"):
        ltvr.export.export(small(None).eval(), "torch", tmp_path / "model.pt2")
    assert not (tmp_path / "model.pt2").exists()
