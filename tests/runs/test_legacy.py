"""Run folders of ltvr 0.1: read, evaluated and gone on with as what they were."""

import json
import shutil

import pytest
import torch
import yaml
from conftest import tiny_config

import ltvr.evaluate
import ltvr.heads
import ltvr.train
import ltvr.training
from ltvr.decompositions.afa import AFAOptions
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.runs.folder import Run

NUMBERS = {"features": 1, "crt": 2}
FIELDS = """
method gamma alpha loss_weight lay_back_start projection mask_axis mask_mean attention_addition
initialisation value_scale attention_scale reduction insert_after dataset root lists image_size
imbalance imbalance_type data_seed augmentation crop_padding mean std many_above few_below
workers backbone stem pretrained epochs batch_size accumulate sampler lr lr_batch momentum
weight_decay warmup_epochs features_batchnorm crt_epochs crt_lr crt_sampler crt_batchnorm
crt_init seed select ema device fused amp channels_last compile fixed_size eval_batch_size
"""
"""The fields of 0.1, those that have other names today by these."""


def rename(weights):
    parts = (("decomposition.", "afa."), ("embedder.", "head."))
    for new, old in parts:
        weights = {k.replace(new, old): v for k, v in weights.items()}
    return weights


@pytest.fixture
def older(finished, tmp_path):
    """A finished run written as ltvr 0.1 wrote it."""
    folder = shutil.copytree(finished, tmp_path / "older")
    values = {k: v for k, v in Run.open(folder).config().flat().items() if k in FIELDS.split()}
    values["mask_gain"] = values.pop("mask_mean") * 4  # 2 x 2 positions
    values["lay_back_epoch"] = round(values.pop("lay_back_start") * values["epochs"])
    values["stage1_batchnorm"] = values.pop("features_batchnorm")
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    command = (folder / "command.txt").read_text().strip()
    (folder / "command.txt").unlink()
    (folder / "stages.json").write_text(json.dumps({"stages": [1, 2], "command": command}))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    numbered = [{**r, "stage": NUMBERS[r["stage"]]} for r in records]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in numbered))
    summary = json.loads((folder / "summary.json").read_text())
    summary["metrics"] = {f"stage{NUMBERS[k]}": v for k, v in summary["metrics"].items()}
    (folder / "summary.json").write_text(json.dumps(summary))
    (folder / "features.pt").rename(folder / "stage1.pt")
    (folder / "crt.pt").unlink()
    for path in folder.glob("*.pt"):
        state = torch.load(path, weights_only=True)
        state["model"] = rename(state["model"])
        if "optimizer" in state:
            state["stage"] = NUMBERS[state["stage"]]
            if "results" in state:
                results = state["results"].items()
                state["results"] = {f"stage{NUMBERS[k]}": v for k, v in results}
            del state["loss"]
        else:
            del state["stage"]
        del state["format"]
        for name in ("config", "splits"):  # which run it is of, it did not say
            state.pop(name, None)
        torch.save(state, path)
    return folder


def test_its_configuration_is_todays(older):
    config, expected = Run.open(older).config(), tiny_config()
    assert config.architecture() == expected.architecture()
    assert config.of(AFAOptions) == expected.of(AFAOptions)
    assert config.of(GenerationOptions) == expected.of(GenerationOptions)
    assert [r["stage"] for r in Run(older).records()] == ["features", "features", "crt"]


def test_it_evaluates_and_goes_on(older, finished, command, monkeypatch):
    for name in ("final.pt", "stage1.pt"):
        code, out, err = command(ltvr.evaluate, older / name)
        stage = "crt" if name == "final.pt" else "features"
        expected = json.loads((finished / "summary.json").read_text())["metrics"][stage]["all"]
        assert code == 0 and f"{expected:.2f}" in out, err
    monkeypatch.setattr(ltvr.training, "write_report", lambda *_: None)
    (older / "summary.json").unlink()
    assert command(ltvr.train, "--resume", older)[0] == 0
    again, first = (json.loads((f / "summary.json").read_text()) for f in (older, finished))
    assert again["metrics"]["crt"].pop("batchnorm")["accuracy"]  # the protocol check, now its own
    assert again["metrics"] == first["metrics"] and again["command"] == first["command"]
    second = ("--stages", "crt", "--from", older, "--out", older.parent, "--name", "second")
    assert command(ltvr.train, *second)[0] == 0
    second = json.loads((older.parent / "second" / "summary.json").read_text())
    del second["metrics"]["crt"]["batchnorm"]
    assert second["metrics"]["crt"] == first["metrics"]["crt"]


def test_it_has_heads(older, finished, command):
    (older / "best-features.pt").rename(older / "best.pt")
    joint = json.loads((finished / "summary.json").read_text())["metrics"]["features"]["all"]
    for path in (older, older / "stage1.pt", older / "best.pt"):
        options = ("--heads", "joint", "logit-adjustment", "crt", "--views", 1)
        code, _, err = command(ltvr.heads, path, *options)
        assert code == 0, err
        found = json.loads((older / "heads.json").read_text())["heads"]
        assert [each["reason"] for each in found] == [None] * 3
        if path.name != "best.pt":
            assert found[0]["chosen"]["metrics"]["all"] == joint


def test_a_checkpoint_of_a_newer_format_is_refused(finished, tmp_path, command):
    folder = shutil.copytree(finished, tmp_path / "newer")
    state = torch.load(folder / "final.pt", weights_only=True)
    torch.save({**state, "format": 99}, folder / "final.pt")
    code, _, err = command(ltvr.evaluate, folder)
    assert code == 2 and "has format 99; this ltvr reads up to 3" in err


def test_what_cannot_be_read_says_so(older):
    (older / "stages.json").unlink()
    with pytest.raises(UserError, match="written by ltvr 0.1 and has no stages.json"):
        Run.open(older).config()


@pytest.mark.parametrize("name", ["stage", "step", "average", "optimizer", "totals", "best"])
def test_a_field_that_its_checkpoint_lacks_is_named(name, older):
    state = torch.load(older / "last.pt", weights_only=True)
    torch.save({k: v for k, v in state.items() if k != name}, older / "last.pt")
    with pytest.raises(UserError, match=f"lacks (loss|{name})"):
        Run(older).load()
