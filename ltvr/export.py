"""``python -m ltvr.export RUN --format onnx|torch``: the inference model, checked after export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ltvr import errors
from ltvr.data.options import DataOptions
from ltvr.engine.trained import load_trained, trained_parser
from ltvr.errors import UserError
from ltvr.networks.network import Network

__all__ = ["export", "main"]

TOLERANCE = 1e-4
"""Largest accepted difference of a logit, relative to the largest logit."""


def export(network: Network, kind: str, path: Path) -> float:
    """Export ``network`` (images [B, 3, S, S] float32 to logits [B, C], any B), and check the file.

    The file is of plain operators, which any runtime knows; it is read back and held to the network
    as it came, fused or not, on random images at three batch sizes.

    Args:
        kind: ``onnx`` (run by ONNX Runtime for the check) or ``torch`` (``torch.export``, .pt2).

    Returns:
        The largest difference of a logit, relative to the largest logit.

    Raises:
        UserError: a missing package, or a file whose logits differ.
    """
    network = network.cpu().eval().to(memory_format=torch.contiguous_format)
    generator = torch.Generator().manual_seed(0)
    shape = (3, network.image_size, network.image_size)
    inputs = [torch.randn((number, *shape), generator=generator) for number in (2, 1, 5)]
    with torch.no_grad():
        expected = [network(images) for images in inputs]
    network.use_backend("reference")
    batch = torch.export.Dim("batch", min=1)
    run: Callable[[Tensor], Tensor]
    if kind == "torch":
        program = torch.export.export(network, (inputs[0],), dynamic_shapes=({0: batch},))
        torch.export.save(program, path)
        run = torch.export.load(path).module()
    else:
        run = _export_onnx(network, inputs[0], batch, path)
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
    network: Network, images: Tensor, batch: torch.export.Dim, path: Path
) -> Callable[[Tensor], Tensor]:
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (torch.onnx needs it)
    except ModuleNotFoundError as error:
        raise UserError(f"--format onnx needs {error.name}: pip install ltvr[export]") from None
    torch.onnx.export(
        network,
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
    network, config, run, classes, _ = load_trained(arguments.run, "cpu", arguments.fused)
    path = arguments.out or run.folder / (
        "model.onnx" if arguments.format == "onnx" else "model.pt2"
    )
    data = config.of(DataOptions)
    worst = export(network, arguments.format, path)
    print(
        f"{path}: images [B, 3, {data.image_size}, {data.image_size}] normalised with mean "
        f"{data.mean} and std {data.std}, to logits [B, {len(classes)}]; "
        f"largest difference to the module {worst:.1e} of the largest logit"
    )


if __name__ == "__main__":
    errors.run(main)
