"""Weights from a file: every layout loads the same backbone, and what does not fit is refused."""

import json
import re
from pathlib import Path

import pytest
import torch
from conftest import tiny_config
from safetensors.torch import save_file
from torchvision.models import resnet18

from ltvr import LTVR
from ltvr.backbones.build import build_backbone, take_apart
from ltvr.engine.trained import load_trained
from ltvr.errors import UserError
from ltvr.networks.weights import load_backbone
from ltvr.runs.folder import Run
from ltvr.training import resume, train

SLIM = "resnext14_8x4d_slim"


def network(insert_after="layer3", seed=0, classes=7):
    torch.manual_seed(seed)
    return LTVR(build_backbone(SLIM, "stride2"), classes, insert_after, image_size=32)


def prefixed(state, prefix):
    return {prefix + key: value for key, value in state.items()}


def older(state):
    """The names of ltvr 0.1."""
    return {
        k.replace("embedder.", "head.").replace("decomposition.", "afa."): v
        for k, v in state.items()
    }


LAYOUTS = {
    "plain": lambda own, ltvr: own,
    "state_dict": lambda own, ltvr: {"state_dict": own, "epoch": 3},
    "model": lambda own, ltvr: {"model": own, "args": {"lr": 0.1}},
    "model_state of DataParallel": lambda own, ltvr: {"model_state": prefixed(own, "module.")},
    "several wrappers": lambda own, ltvr: prefixed(own, "module._orig_mod.backbone."),
    "run": lambda own, ltvr: {"format": 2, "model": ltvr, "stage": "crt"},
    "run of 0.1": lambda own, ltvr: {"model": older(ltvr)},
}


@pytest.mark.parametrize("layout", [*LAYOUTS, "safetensors"])
def test_every_layout_loads_the_backbone_and_nothing_else(layout, tmp_path):
    torch.manual_seed(1)
    source = build_backbone(SLIM, "stride2")
    ltvr = LTVR(source, 3, "layer2", image_size=32).state_dict()  # cut elsewhere, other classes
    path = tmp_path / "weights.pt"
    if layout == "safetensors":
        path = tmp_path / "weights.safetensors"
        save_file(source.state_dict(), path)
    else:
        torch.save(LAYOUTS[layout](source.state_dict(), ltvr), path)
    backbone = build_backbone(SLIM, "stride2")
    line = load_backbone(take_apart(backbone, 32), SLIM, path)
    for name, value in source.state_dict().items():
        assert torch.equal(backbone.state_dict()[name], value) == (not name.startswith("fc.")), name
    left = 7 if layout.startswith("run") else 2  # the classifier's two, and AFA's five
    assert f"loaded {len(source.state_dict()) - 2} tensors" in line and f"left out {left} " in line
    assert "\n" not in line and "the classifier starts anew" in line


def write(path, state):
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda s: {"other": torch.ones(1)}, "0 of the 100 tensors of resnet18 .* conv1.weight"),
        (
            lambda s: {k: v for k, v in s.items() if "layer4" not in k},
            "layer4.0.conv1.weight is not",
        ),
        (lambda s: s | {"layer1.2.conv1.weight": torch.ones(1)}, "layer1.2.conv1.weight is there"),
        (lambda s: s | {"conv1.weight": torch.ones(64, 3, 3, 3)}, "--stem cifar or stride2"),
        (lambda s: s | {"bn1.bias": torch.ones(32)}, r"bn1.bias is \[32\] there and \[64\] in"),
        (lambda s: {}, "expected names and tensors"),
        (lambda s: [1, 2], "expected names and tensors"),
        (lambda s: torch.nn.Linear(1, 1), "it holds a whole model .*; save model.state_dict"),
        (lambda s: {"model": s, "args": Path("x")}, "it holds a whole model or other objects"),
        (lambda s: {"fc.weight": s["fc.weight"]}, "0 of the 100 tensors .* conv1.weight is not"),
        (
            lambda s: dict(build_backbone(SLIM, "stride2").state_dict()),
            "tensors of resnet18 are there in their shape, and .* name the backbone",
        ),
    ],
)
def test_what_does_not_fit_is_refused(spoil, words, tmp_path):
    backbone = resnet18()
    path = write(tmp_path / "weights.pt", spoil(dict(resnet18().state_dict())))
    with pytest.raises(UserError, match=words) as refused:
        load_backbone(take_apart(backbone, 64), "resnet18", path)
    assert "\n" not in str(refused.value)


def test_a_7x7_stem_says_which_stem_to_use(tmp_path):
    path = write(tmp_path / "weights.pt", resnet18().state_dict())
    with pytest.raises(UserError, match=r"conv1.weight is \[64, 3, 7, 7\] .*; say --stem imagenet"):
        load_backbone(take_apart(build_backbone("resnet18", "cifar"), 32), "resnet18", path)


def test_files_that_are_none(tmp_path):
    parts = take_apart(resnet18(), 64)
    for name in ("broken.pt", "broken.safetensors"):
        (tmp_path / name).write_bytes(b"no weights")
        with pytest.raises(UserError, match=f"{name} cannot be read"):
            load_backbone(parts, "resnet18", tmp_path / name)
    for content, words in {
        "import torch": "it is no file of torch.save",
        "": "it is empty",
    }.items():
        (tmp_path / "model.pth").write_text(content)
        with pytest.raises(UserError, match=rf"model.pth cannot be read \({words}\)"):
            load_backbone(parts, "resnet18", tmp_path / "model.pth")


def test_a_run_starts_from_another_and_outlives_the_file(finished, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("ltvr.training.write_report", lambda *_: None)
    path = tmp_path / "start.pt"
    path.write_bytes((finished / "final.pt").read_bytes())
    config = tiny_config(weights=str(path), epochs=0, crt_epochs=1)
    metrics = train(config, tmp_path / "run")["metrics"]
    assert "loaded" in capsys.readouterr().out
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["weights"]["file"] == str(path)
    assert re.fullmatch("[0-9a-f]{64}", manifest["weights"]["sha256"])
    started, trained = (load_trained(f).network for f in (tmp_path / "run", finished))
    for ours, theirs in zip(
        started.extractor.parameters(), trained.extractor.parameters(), strict=True
    ):
        assert torch.equal(ours, theirs)
    path.unlink()  # from here on the run has all that it needs
    (tmp_path / "run" / "summary.json").unlink()
    assert resume(Run.open(tmp_path / "run"))["metrics"] == metrics
    load_trained(tmp_path / "run")
