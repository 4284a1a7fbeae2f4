"""How a picture becomes square: one rule for training, evaluation and prediction."""

from __future__ import annotations

from PIL import Image

from ltvr.data.options import Resize

__all__ = ["describe", "framed", "squared"]

BILINEAR = Image.Resampling.BILINEAR


def squared(
    image: Image.Image, size: int, resize: Resize, background: tuple[int, int, int]
) -> Image.Image:
    """The square of ``size`` pixels that evaluation sees, and that random crops start from.

    Args:
        resize: ``squash`` changes the proportions; ``short-side-crop`` brings the short side to
            256/224 of the size and cuts out the centre, as the field evaluates photographs;
            ``pad`` puts the whole picture on a square of the colour ``background``.
    """
    if resize == "short-side-crop":
        from torchvision.transforms.v2 import functional  # not on top: to read YAML takes none

        short: Image.Image = functional.resize(image, [size * 256 // 224])
        cut: Image.Image = functional.center_crop(short, [size])
        return cut
    whole = framed(image, resize, background)
    return whole if whole.size == (size, size) else whole.resize((size, size), BILINEAR)


def framed(image: Image.Image, resize: Resize, background: tuple[int, int, int]) -> Image.Image:
    """What ``RandomResizedCrop`` cuts from: the picture in the proportions of ``squared``."""
    width, height = image.size
    if resize == "short-side-crop" or width == height:
        return image
    if resize == "squash":
        return image.resize((min(width, height),) * 2, BILINEAR)
    side = max(width, height)
    square = Image.new("RGB", (side, side), background)
    square.paste(image, ((side - width) // 2, (side - height) // 2))
    return square


def describe(size: int, resize: Resize) -> str:
    """The rule in words, for whoever prepares images for an exported model."""
    short = f"their short side resized to {size * 256 // 224} pixels and the centre cut out"
    return {
        "squash": f"squashed to {size} x {size} pixels",
        "short-side-crop": f"{short} to {size} x {size}",
        "pad": f"padded to a square, then resized to {size} x {size} pixels",
    }[resize]
