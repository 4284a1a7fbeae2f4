"""``python -m ltvr.export RUN --format onnx|torch``: the inference model, checked after export."""

from __future__ import annotations

import importlib.util
import io
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr import errors
from ltvr.config.config import Config
from ltvr.data.geometry import prescribe
from ltvr.data.options import DataOptions
from ltvr.data.splits import Ranges
from ltvr.engine.trained import add_inference, inference_of, load_trained, trained_parser
from ltvr.errors import UserError, shown
from ltvr.networks.network import Network
from ltvr.runs.files import replacing
from ltvr.runs.folder import Run

__all__ = ["export", "main", "preparation"]

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2"}
"""How the name of a file of each format ends; torch reads no path that ends otherwise."""

CLASSES_TO_SHOW = 20

TOLERANCE = 1e-4
"""Largest accepted difference of a logit, relative to the largest logit."""


def export(
    network: Network, kind: str, path: Path, about: Mapping[str, str] | None = None
) -> float:
    """Export ``network`` (images [B, 3, S, S] float32 to logits [B, C], any B), and check the file.

    The file is of plain operators, which any runtime knows; it is read back and held to the network
    as it came, fused or not, on random images at three batch sizes. Only then is it at ``path``, in
    place of what was there.

    Args:
        kind: ``onnx`` (run by ONNX Runtime for the check) or ``torch`` (``torch.export``, .pt2).
        about: texts by name that the file is to hold, in ONNX as ``metadata_props`` and in .pt2 as
            extra files.

    Returns:
        The largest difference of a logit, relative to the largest logit.

    Raises:
        UserError: a missing package, or a file whose logits differ.
        CannotWrite: a disk that is full, read-only or broken.
    """
    if kind == "onnx":
        _require_onnx()
    network = network.cpu().eval().to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    shape = (3, network.image_size, network.image_size)
    inputs = [torch.randn((number, *shape), generator=generator) for number in (2, 1, 5)]
    with torch.no_grad():
        expected = [network(images) for images in inputs]
    network.use_backend("reference")
    batch = torch.export.Dim("batch", min=1)
    write = _write_torch if kind == "torch" else _write_onnx
    with replacing(path) as partial:
        run = write(network, inputs[0], batch, partial, dict(about or {}))
        with torch.no_grad():
            differences = [
                (run(images) - logits).abs().max() / logits.abs().max()
                for images, logits in zip(inputs, expected, strict=True)
            ]
        worst = float(torch.stack(differences).max())  # nan if any is
        if not worst <= TOLERANCE:
            raise UserError(
                f"the logits of {path} would differ by {worst:.1e}, more than {TOLERANCE}; it is "
                "not written"
            )
    return worst


def _write_torch(
    network: Network, images: Tensor, batch: torch.export.Dim, path: Path, about: dict[str, str]
) -> Callable[[Tensor], Tensor]:
    program = torch.export.export(network, (images,), dynamic_shapes=({0: batch},))
    content = io.BytesIO()  # a disk that is full is then Python's error, not one of torch's writer
    torch.export.save(program, content, extra_files=about)
    path.write_bytes(content.getvalue())
    with path.open("rb") as file:  # of a path, torch reads one that ends with .pt2 alone
        run: Callable[[Tensor], Tensor] = torch.export.load(file).module()
    return run


def _require_onnx() -> None:
    """Fail before the minutes that the network takes."""
    for name in ("onnxruntime", "onnxscript"):  # torch.onnx needs the second
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--format onnx needs {name}: pip install ltvr[export]")


def _write_onnx(
    network: Network, images: Tensor, batch: torch.export.Dim, path: Path, about: dict[str, str]
) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    program = torch.onnx.export(
        network,
        (images,),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=["images"],
        output_names=["logits"],
        verbose=False,
    )
    assert program is not None  # it is where no file is named
    program.model.metadata_props.update(about)
    program.save(str(path), external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"images": images.numpy()})[0]))

    return run


def preparation(config: Config, ranges: Ranges) -> str:
    """How an image becomes an input of the exported model, in words.

    Args:
        ranges: of the training images of more than 8 bits, from the run.
    """
    data = config.of(DataOptions)
    resized = prescribe(data.image_size, data.resize, data.colour)
    deep = "".join(
        f"values of type {kind} from {low:g} to {high:g} (others clipped) scaled to 0 to 255, "
        for kind, (low, high) in ranges.items()
    )
    return (
        f"turned as its EXIF orientation says, {deep}RGB (transparency over {data.colour}), "
        f"{resized}, divided by 255, less mean {data.mean}, divided by std {data.std}"
    )


def _order(classes: list[str]) -> str:
    """The classes in the order of the logits, the first of many."""
    some = [f"{k} {name}" for k, name in enumerate(classes[:CLASSES_TO_SHOW])]
    more = len(classes) - len(some)
    return shown(", ".join(some)) + (f", and {more} more, all in the file" if more else "")


def _checked(path: Path, kind: str) -> Path:
    """``path``, if the model can be written there.

    Raises:
        UserError: another suffix, a folder that is missing or takes no files, or no file.
    """
    if path.suffix != SUFFIXES[kind]:
        raise UserError(
            f"--out {path}: expected a name with {SUFFIXES[kind]} at the end for --format {kind}"
        )
    if not path.parent.is_dir():
        raise UserError(f"--out {path}: there is no folder {path.parent}; make it, or name another")
    if path.exists() and not path.is_file():
        raise UserError(f"--out {path} is no file; name one, which may exist already")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"no file can be written to {path.parent}; name another with --out")
    return path


def main() -> None:
    """Run the command line."""
    p = trained_parser("export", "Export a trained model for inference.")
    p.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="(onnx)")
    p.add_argument(
        "--out", type=Path, metavar="FILE", help="default: model.onnx or .pt2 in RUN; replaced"
    )
    add_inference(p)
    arguments = p.parse_args()
    kind = arguments.format
    default = Run.open(arguments.run).folder / f"model{SUFFIXES[kind]}"
    path = _checked(arguments.out or default, kind)
    network, config, run, classes, _ = load_trained(
        arguments.run, "cpu", arguments.fused, inference_of(arguments)
    )
    size = config.of(DataOptions).image_size
    prepared = preparation(config, run.ranges())
    worst = export(network, kind, path, {"classes": json.dumps(classes), "preparation": prepared})
    print(
        f"{shown(path)}: images [B, 3, {size}, {size}] to logits [B, {len(classes)}]; largest "
        f"difference to the module {worst:.1e} of the largest logit\n"
        f"prepare images alike: {prepared}\n"
        f"classes: {_order(classes)}"
    )


if __name__ == "__main__":
    errors.run(main)
