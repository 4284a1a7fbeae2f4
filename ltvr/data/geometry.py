"""How a picture becomes square: one rule for training, evaluation and prediction."""

from __future__ import annotations

from PIL import Image

from ltvr.data.options import Resize

__all__ = ["describe", "framed", "prescribe", "squared"]

BILINEAR = Image.Resampling.BILINEAR
LONGEST = 8
"""Long : short side beyond which a picture's ends are cut off before its centre is."""


def squared(
    image: Image.Image, size: int, resize: Resize, background: tuple[int, int, int]
) -> Image.Image:
    """The square of ``size`` pixels that evaluation sees, and that random crops start from.

    Args:
        resize: ``squash`` changes the proportions; ``short-side-crop`` brings the short side to
            256/224 of the size and cuts out the centre, as the field evaluates photographs;
            ``pad`` resizes the long side and puts the picture on a square of ``background``.
    """
    if resize == "short-side-crop":
        from torchvision.transforms.v2 import functional  # not on top: to read YAML takes none

        short: Image.Image = functional.resize(_not_too_long(image), [_margin(size)])
        cut: Image.Image = functional.center_crop(short, [size])
        return cut
    return _fitted(image, size, resize, background)


def framed(
    image: Image.Image, size: int, resize: Resize, background: tuple[int, int, int]
) -> Image.Image:
    """What ``RandomResizedCrop`` cuts from: the picture in the proportions of ``squared``.

    Squashed or padded, it has as many pixels as its short side, and no fewer than evaluation
    resizes to before it crops.
    """
    if resize == "short-side-crop" or image.width == image.height:
        return image
    return _fitted(image, max(min(image.size), _margin(size)), resize, background)


def _fitted(
    image: Image.Image, side: int, resize: Resize, background: tuple[int, int, int]
) -> Image.Image:
    """The whole picture on a square: squashed, or with its proportions kept and padded."""
    if resize == "squash" or image.width == image.height:
        return image if image.size == (side, side) else image.resize((side, side), BILINEAR)
    scale = side / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    square = Image.new("RGB", (side, side), background)
    square.paste(
        image.resize((width, height), BILINEAR), ((side - width) // 2, (side - height) // 2)
    )
    return square


def _margin(size: int) -> int:
    return size * 256 // 224


def _not_too_long(image: Image.Image) -> Image.Image:
    """The middle of a very long picture: resized as a whole it might not fit into memory."""
    width, height = image.size
    longest = LONGEST * min(width, height)
    if max(width, height) <= longest:
        return image
    left, top = (max(0, (length - longest) // 2) for length in (width, height))
    return image.crop((left, top, width - left, height - top))


def describe(size: int, resize: Resize) -> str:
    """What happens to a picture, in words."""
    return {
        "squash": f"squashed to {size} x {size} pixels",
        "short-side-crop": f"resized to {_margin(size)} pixels on the short side and cut to the "
        f"central {size} x {size}",
        "pad": f"resized to {size} pixels on the long side and padded to {size} x {size}",
    }[resize]


def prescribe(size: int, resize: Resize, background: tuple[int, int, int]) -> str:
    """The whole rule in words, for whoever prepares images for an exported model."""
    before = after = ""
    if resize == "short-side-crop":
        before = f"pictures longer than {LONGEST} : 1 cut to the middle of that shape, "
    elif resize == "pad":
        after = f" on all sides alike with {background}"
    return f"{before}{describe(size, resize)}{after} (bilinear)"
