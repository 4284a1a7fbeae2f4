"""``python -m ltvr.export RUN --format onnx|torch``: the inference model, checked after export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr import errors
from ltvr.errors import UserError
from ltvr.model import LTVR
from ltvr.trained import load_trained, trained_parser

__all__ = ["export", "main"]

TOLERANCE = 1e-4
"""Largest accepted difference of a logit, relative to the largest logit."""


def export(model: LTVR, kind: str, path: Path) -> float:
    """Export ``model`` (images [B, 3, S, S] float32 to logits [B, C], any B), and check the file.

    The file is of plain operators, which any runtime knows; it is read back and held to the model
    as it came, fused or not, on random images at three batch sizes.

    Args:
        kind: ``onnx`` (run by ONNX Runtime for the check) or ``torch`` (``torch.export``, .pt2).

    Returns:
        The largest difference of a logit, relative to the largest logit.

    Raises:
        UserError: a missing package, or a file whose logits differ.
    """
    model = model.cpu().eval().to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    shape = (3, model.image_size, model.image_size)
    inputs = [torch.randn((number, *shape), generator=generator) for number in (2, 1, 5)]
    with torch.no_grad():
        expected = [model(images) for images in inputs]
    if model.afa is not None:
        model.afa.backend = "reference"
    batch = torch.export.Dim("batch", min=1)
    run: Callable[[Tensor], Tensor]
    if kind == "torch":
        program = torch.export.export(model, (inputs[0],), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
        run = torch.export.load(path).module()
    else:
        run = _export_onnx(model, inputs[0], batch, path)
    with torch.no_grad():
        worst = max(
            float((run(images) - logits).abs().max() / logits.abs().max())
            for images, logits in zip(inputs, expected, strict=True)
        )
    if not worst <= TOLERANCE:
        raise UserError(
            f"{path}: logits differ by {worst:.1e}, more than {TOLERANCE}; do not use it"
        )
    return worst


def _export_onnx(
    model: LTVR, images: Tensor, batch: torch.export.Dim, path: Path
) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ModuleNotFoundError as error:
        raise UserError(f"--format onnx needs {error.name}: pip install ltvr[export]") from None
    torch.onnx.export(
        model,
        (images,),
        str(path),
        dynamo=True,
        dynamic_shapes=({0: batch},),
        input_names=["images"],
        output_names=["logits"],
        external_data=False,
        verbose=False,
    )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(np.asarray(session.run(None, {"images": images.numpy()})[0]))

    return run


def main() -> None:
    """Run the command line."""
    p = trained_parser("export", "Export a trained model for inference.")
    p.add_argument("--format", choices=("onnx", "torch"), default="onnx", help="(onnx)")
    p.add_argument("--out", type=Path, metavar="FILE", help="default: model.onnx or .pt2 in RUN")
    arguments = p.parse_args()
    model, config, run, classes = load_trained(arguments.run, "cpu", arguments.fused)
    path = arguments.out or run.folder / (
        "model.onnx" if arguments.format == "onnx" else "model.pt2"
    )
    worst = export(model, arguments.format, path)
    print(
        f"{path}: images [B, 3, {config.image_size}, {config.image_size}] normalised with mean "
        f"{config.mean} and std {config.std}, to logits [B, {len(classes)}]; "
        f"largest difference to the module {worst:.1e} of the largest logit"
    )


if __name__ == "__main__":
    errors.run(main)
