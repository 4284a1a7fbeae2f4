"""Networks of timm: taken apart to the bit, trained, exported, or refused with the reason."""

import pytest
import torch
from conftest import config_of, tiny_config

from ltvr import LTVR, plan_synthesis
from ltvr.backbones.build import build_backbone, take_apart
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.export import export
from ltvr.networks.build import check_network
from ltvr.networks.cut import cut_backbone
from ltvr.training import train

timm = pytest.importorskip("timm")


@pytest.fixture(scope="module", autouse=True)
def small_swin():
    """A Swin of 0.3 million weights under a name of its own."""

    @timm.models.register_model
    def ltvr_test_swin(pretrained=False, **options):
        sizes = {"embed_dim": 16, "depths": (1, 2, 1), "num_heads": (1, 2, 4), "window_size": 4}
        return timm.models.swin_transformer.SwinTransformer(img_size=64, **sizes)


FAMILIES = {
    "test_convnext": "stages.2",
    "ltvr_test_swin": "layers.1",
    "test_efficientnet": "blocks.2",
    "mobilenetv3_small_050": "blocks.3",
    "regnety_002": "s3",
    "densenet121": "features.denseblock3",
    "vgg11_bn": "features.20",
    "test_maxvit": "stages.2",
    "test_nfnet": "final_conv",
    "resnet18d": "layer3",
    "seresnet18": "layer3",
}


@pytest.mark.parametrize("name", FAMILIES)
def test_the_halves_are_timms_own_network_to_the_bit(name):
    torch.manual_seed(0)
    size = 160 if name == "test_maxvit" else 64
    model = build_backbone(f"timm:{name}").eval()
    before = set(model.state_dict())
    parts = cut_backbone(model, FAMILIES[name], size)
    x = torch.randn(2, 3, size, size)
    with torch.no_grad():
        features = parts.extractor(x)
        expected = model.forward_head(model.forward_features(x), pre_logits=True)
        assert torch.equal(parts.embedder(features), expected)
    assert tuple(features.shape[1:]) == parts.features
    assert expected.shape == (2, parts.embedding_dim)
    halves = torch.nn.ModuleDict({"extractor": parts.extractor, "embedder": parts.embedder})
    names = {key.partition(".")[2] for key in halves.state_dict()}
    assert names < before == set(model.state_dict())  # timm's names, and its classifier is there
    assert all(key.startswith(("fc", "classifier", "head")) for key in before - names)
    ours = {id(p) for p in halves.parameters()}
    assert ours < {id(p) for p in model.parameters()}  # the weights are shared


def test_maps_that_are_channels_last_come_out_channels_first():
    swin = build_backbone("timm:ltvr_test_swin")
    assert take_apart(swin, 64).stages == {
        "layers.0": (16, 16, 16), "layers.1": (32, 8, 8), "layers.2": (64, 4, 4)
    }  # fmt: skip
    x = torch.randn(1, 3, 64, 64)
    inside = swin.eval().layers[0](swin.patch_embed(x))
    got = cut_backbone(swin, "layers.0", 64).extractor(x)
    assert torch.equal(got, inside.permute(0, 3, 1, 2))


@pytest.mark.parametrize("after", ["layers.1", "layers.2"])
def test_what_is_put_behind_the_last_stage_takes_its_maps_channels_first(after):
    swin = build_backbone("timm:ltvr_test_swin")
    network, x = LTVR(swin, 5, after, image_size=64).eval(), torch.randn(2, 3, 64, 64)
    expected, seen = network(x), []
    network.last_map.append(torch.nn.Identity())
    network.last_map[0].register_forward_hook(lambda _, given, out: seen.append(out))
    assert torch.equal(network(x), expected)
    assert [tuple(maps.shape) for maps in seen] == [(2, *network.last_map.shape)] == [(2, 64, 4, 4)]


@pytest.mark.parametrize(
    ("name", "after"), [("test_convnext", "stages.1"), ("ltvr_test_swin", "layers.1")]
)
def test_real_and_generated_rows_train_every_weight(name, after):
    model = LTVR(build_backbone(f"timm:{name}"), 5, after, image_size=64)
    labels = torch.tensor([0, 0, 1, 4])
    plan = plan_synthesis(labels, seed=0, step=0)
    logits = model.outputs(torch.randn(4, 3, 64, 64), plan).logits
    torch.nn.functional.cross_entropy(logits, torch.cat([labels, plan.labels])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("name", "after"), [("test_convnext", "stages.1"), ("ltvr_test_swin", "layers.1")]
)
def test_a_fused_run_trains_and_exports(name, after, tmp_path, monkeypatch):
    monkeypatch.setattr("ltvr.training.write_report", lambda *_: None)
    config = tiny_config(
        backbone=f"timm:{name}", stem="imagenet", insert_after=after, fused=True,
        image_size=64, imbalance=50.0, epochs=1, batch_size=128, lay_back_start=0.0,
        features_batchnorm="real",
    )  # fmt: skip
    train(config, tmp_path / "run")
    network = load_trained(tmp_path / "run").network
    assert network.backend == "cpp" and not network.training
    export(network, "torch", tmp_path / "model.pt2")  # which checks what it wrote


def test_a_size_that_a_network_is_not_made_for_is_built_or_refused():
    swin = build_backbone("timm:swin_tiny_patch4_window7_224", image_size=64)
    assert take_apart(swin, 64).stages["layers.3"] == (768, 2, 2)
    with pytest.raises(UserError, match="image_size = 30: .* cannot .*--image-size 224"):
        build_backbone("timm:gcvit_xxtiny", image_size=30)
    config = config_of(backbone="timm:test_vit", image_size=64)
    with pytest.raises(UserError, match="no maps"):
        check_network(config, "reference")
    with pytest.raises(UserError, match="image_size = 48: .* cannot take such images"):
        cut_backbone(build_backbone("timm:ltvr_test_swin"), "layers.0", 48)


def test_what_is_no_chain_of_modules_is_refused():
    class Twice(torch.nn.Module):
        feature_info = ({"module": "stage", "num_chs": 3}, {"module": "more.0", "num_chs": 3})

        def __init__(self, change):
            super().__init__()
            self.stage, self.pool = torch.nn.Identity(), torch.nn.AdaptiveAvgPool2d(1)
            self.flat, self.change = torch.nn.Flatten(), change
            self.more = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.ReLU())

        def reset_classifier(self, number):
            pass

        def forward(self, images):
            return self.change(self, images)

    for change in (
        lambda m, x: m.flat(m.pool(m.stage(x) + 1)),
        lambda m, x: m.flat(m.pool(m.stage(x * 2))),
        lambda m, x: m.flat(m.pool(m.stage(x))) * 2,
        lambda m, x: m.flat(m.pool(m.stage(m.stage(x)))),
        lambda m, x: m.pool(m.stage(x)),
        lambda m, x: m.flat(m.more[1](m.pool(m.more[0](x)))),
    ):
        with pytest.raises(UserError, match="cannot be cut in two"):
            take_apart(Twice(change), 8)
    assert take_apart(Twice(lambda m, x: m.flat(m.pool(m.stage(x)))), 8).embedding_dim == 3
