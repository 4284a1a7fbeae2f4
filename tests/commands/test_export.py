"""Exported models: they give the logits of the network, and say how images are prepared."""

import json

import onnxruntime
import pytest
import torch
from conftest import tiny_config

import ltvr.export
from ltvr.engine.trained import load_trained
from ltvr.export import preparation
from ltvr.runs.folder import Run


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_export_gives_the_modules_logits(kind, finished, tmp_path, command):
    path = tmp_path / f"model{ltvr.export.SUFFIXES[kind]}"
    code, out, err = command(ltvr.export, finished, "--format", kind, "--out", path, "--fused")
    assert code == 0 and "[B, 3, 16, 16]" in out, err
    images = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        got = torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
        about = session.get_modelmeta().custom_metadata_map
    else:
        about = {"classes": "", "preparation": ""}  # torch fills in those that are asked for
        got = torch.export.load(path, extra_files=about).module()(images)
    assert json.loads(about["classes"]) == Run.open(finished).manifest()["classes"]
    assert f"prepare images alike: {about['preparation']}\nclasses: 0 0, 1 1, 2 2," in out
    with torch.no_grad():
        expected = load_trained(finished, "cpu")[0](images)
    torch.testing.assert_close(got.detach(), expected, rtol=1e-4, atol=1e-4)


def test_how_images_are_prepared_is_said_whole():
    said = preparation(tiny_config(), {"uint16": (3.0, 400.0)})
    assert "EXIF orientation" in said
    assert "values of type uint16 from 3 to 400 (others clipped) scaled to 0 to 255" in said
    said = preparation(tiny_config(resize="pad", background=(0.0, 0.0, 0.0)), {})
    assert "padded to 16 x 16 on all sides alike with (0, 0, 0) (bilinear)" in said
    said = preparation(tiny_config(resize="short-side-crop"), {})
    assert "pictures longer than 8 : 1 cut to the middle of that shape, resized to 18 pix" in said
