"""Backbones by name: what each library gives, its first layers, and where it can be cut."""

import pytest
import torch

from ltvr import LTVR
from ltvr.backbones.build import build_backbone
from ltvr.networks.cut import cut_backbone
from resnext import resnext50


@pytest.mark.parametrize(("stem", "positions"), [("imagenet", 4), ("stride2", 16), ("cifar", 64)])
def test_resnext50_with_every_stem(stem, positions):
    model = LTVR(build_backbone("resnext50_32x4d", stem), 5, image_size=32).eval()
    afa = model.decomposition
    assert afa.channels == 1024 and afa.w_q.shape == (positions, positions)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_timm_backbone_is_timms_own_network():
    pytest.importorskip("timm")
    torch.manual_seed(0)
    backbone = build_backbone("timm:resnet10t").eval()
    x = torch.randn(2, 3, 32, 32)
    expected = backbone(x)
    model = LTVR(backbone, 1000, None, image_size=32).eval()
    model.classifier.load_state_dict(backbone.fc.state_dict())
    torch.testing.assert_close(model(x), expected)
    assert LTVR(backbone, 5, image_size=32).decomposition.channels == 256


@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_the_benchmarks_resnext_is_torchvisions(stem):
    theirs, ours = build_backbone("resnext50_32x4d", stem), resnext50(stem)
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 32, 32)
    parts = [cut_backbone(model.eval(), "layer3") for model in (theirs, ours)]
    expected, got = (part.embedder(part.extractor(x)) for part in parts)
    torch.testing.assert_close(got, expected)


def test_resnet32_is_the_papers():
    network = build_backbone("resnet32_cifar", "cifar")
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 31  # and the classifier: 32 layers
    weights = sum(p.numel() for p in network.parameters())
    assert weights == 464_154  # 0.46 million, table 6 of the paper
    parts, x = cut_backbone(network.eval(), "layer2"), torch.randn(2, 3, 32, 32)
    assert parts.extractor(x).shape == (2, 32, 16, 16)
    torch.testing.assert_close(network.fc(parts.embedder(parts.extractor(x))), network(x))
    block = network.layer2[0].eval()  # option A: every second position, channels padded with 0
    features = torch.rand(1, 16, 4, 4)
    torch.nn.init.zeros_(block.bn2.weight)
    torch.testing.assert_close(block(features)[:, 8:24], features[:, :, ::2, ::2])
    assert not block(features)[:, :8].any() and not block(features)[:, 24:].any()


def test_bbns_resnet32_ends_in_two_blocks_side_by_side():
    network = build_backbone("bbn_resnet32_cifar", "cifar").eval()
    convolutions = [m for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 33 and len(network.layer3) == 4
    block = 2 * 64 * 64 * 9 + 4 * 64  # two convolutions and their BatchNorms
    assert sum(p.numel() for p in network.parameters()) == 464_154 + block + 64 * 10
    parts, x = cut_backbone(network, "layer3", 32), torch.randn(2, 3, 32, 32)
    assert parts.features == (64, 8, 8) and parts.embedding_dim == 128
    features = parts.extractor(x)
    halves = [b(features).mean((2, 3)) for b in (network.pair.first, network.pair.second)]
    torch.testing.assert_close(parts.embedder(features), torch.cat(halves, 1))
    torch.testing.assert_close(network(x), network.fc(torch.cat(halves, 1)))
    assert not torch.equal(*halves)


def test_pretrained_weights_are_what_was_downloaded(monkeypatch):
    torch.manual_seed(1)
    downloaded = build_backbone("resnet18").state_dict()
    monkeypatch.setattr(
        "torchvision.models._api.load_state_dict_from_url", lambda *_, **__: downloaded
    )
    loaded = build_backbone("resnet18", pretrained=True).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in downloaded.items())


def test_errors_name_the_value():
    with pytest.raises(ValueError, match="backbone = 'resnet19': expected one of .* timm:NAME"):
        build_backbone("resnet19")
    pytest.importorskip("timm")
    with pytest.raises(ValueError, match="timm:NAME; did you mean timm:convnext_atto?"):
        build_backbone("convnext_atto")
    with pytest.raises(ValueError, match="stem = 'large': expected one of imagenet"):
        build_backbone("resnet18", "large")
    with pytest.raises(ValueError, match="resnet32_cifar has cifar; use --stem cifar"):
        build_backbone("resnet32_cifar")
    with pytest.raises(ValueError, match="no weights for 'resnext14_8x4d'"):
        build_backbone("resnext14_8x4d", pretrained=True)
    with pytest.raises(ValueError, match="insert_after = 'layer9': expected one of layer1"):
        cut_backbone(build_backbone("resnet18"), "layer9")
    with pytest.raises(ValueError, match="expected a residual network"):
        cut_backbone(torch.nn.Linear(2, 2), "layer3")
