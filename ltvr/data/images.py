"""One image file as an RGB picture of 8 bits: the rules, whatever kind of file it is.

==================  ==============================================================================
orientation         as EXIF (or XMP) says
transparency        laid over the background colour
more than 8 bits    the range of the training images becomes 0 to 255 (``Decoder.ranges``)
16 bits, colour     the upper 8 of them, as Pillow reads them; refused where these are all dark
several frames      the first
palette, CMYK, ...  as Pillow converts them, without colour profiles; LAB by way of sRGB
==================  ==============================================================================

Only formats of pictures are opened: no PostScript, PDF, movies or scientific containers, whatever
the ending of the file's name says.
"""

from __future__ import annotations

import functools
import importlib.util
import io
import os
import stat
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageCms, UnidentifiedImageError
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    PHOTOMETRIC_INTERPRETATION,
    PLANAR_CONFIGURATION,
    SAMPLEFORMAT,
)

from ltvr.errors import UserError

__all__ = [
    "Decoder",
    "content_of",
    "deep_kind",
    "deep_values",
    "endings",
    "formats",
    "is_image",
    "open_image",
    "unreadable",
]

FORMATS = (
    "AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM",
    "SGI", "TGA", "TIFF", "WEBP",
)  # fmt: skip
"""Pillow's names of the formats that are read, where Pillow (with its plug-ins) has them."""

WITHOUT_SIGNATURE = ("TGA",)
"""Formats that a file is only taken for if its name says so."""

PLUGIN_ENDINGS = {".heic": "pillow-heif", ".heif": "pillow-heif", ".hif": "pillow-heif"}
"""Endings of pictures that Pillow reads with another package, and which."""

DEEP = {
    "I;16": "uint16", "I;16B": "uint16", "I;16L": "uint16", "I;16N": "uint16", "I": "int32",
    "F": "float32",
}  # fmt: skip
"""Pillow's modes of grey pictures of more than 8 bits."""

DARK = 64
"""A picture of 16 bits a channel whose upper bytes are all below this has 14 bits, or fewer."""

TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""
ORIENTATION = 0x0112

UNSIGNED, SIGNED = 1, 2
"""Values of TIFF's ``SampleFormat``."""
PLANES, WHITE_IS_ZERO = 2, 0
"""Values of TIFF's ``PlanarConfiguration`` and ``PhotometricInterpretation``."""

# Pillow warns of damaged tags and large pictures; what cannot be read is an error in any case.
warnings.filterwarnings("ignore", module=r"PIL\.")


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats of ``FORMATS`` that this installation of Pillow reads."""
    if importlib.util.find_spec("pillow_heif") is not None:
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


@functools.cache
def endings() -> dict[str, str]:
    """Endings of file names (``.png``) of pictures, each with the package it lacks, or empty."""
    formats()  # registers the plug-ins
    read = {e: "" for e, name in Image.registered_extensions().items() if name in FORMATS}
    return {**PLUGIN_ENDINGS, **read}


def is_image(path: Path) -> bool:
    """Whether the content of a file is a picture, whatever its name."""
    signed = [name for name in formats() if name not in WITHOUT_SIGNATURE]
    try:
        with _opened(path) as file, Image.open(file, formats=signed):  # it reads the start alone
            return True
    except Image.DecompressionBombError:  # one that is too large, which its reading says
        return True
    except Exception:  # Pillow's decoders raise many types of what they do not know
        return False


def content_of(path: str | Path) -> bytes:
    """The content of a regular file; others may block for ever, or never end.

    Raises:
        UserError: it is missing, no file, or may not be read.
    """
    with _opened(path) as file:
        return file.read()


@contextmanager
def _opened(path: str | Path) -> Iterator[BinaryIO]:
    """A regular file, to be read in the block; raises as ``content_of``."""
    try:
        mode = os.stat(path).st_mode
        if stat.S_ISREG(mode):
            with open(path, "rb") as file:
                yield file
            return
    except FileNotFoundError:
        raise UserError(f"image {path} is missing; restore it") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(
            f"image {path} cannot be read ({reason}); check its path and permissions"
        ) from None
    what = "folder" if stat.S_ISDIR(mode) else "pipe, socket or device"
    raise UserError(f"image {path} is a {what}; expected an image file")


def open_image(content: bytes, path: str | Path) -> Image.Image:
    """Open a picture: its size and mode are known, its pixels are not read yet.

    From its content: of a path Pillow maps some TIFF files into memory, and turns those wrongly.

    Args:
        path: for errors.

    Raises:
        UserError: no picture, or one that is too large.
    """
    try:
        return Image.open(io.BytesIO(content), formats=formats())
    except UnidentifiedImageError:
        if lacking := endings().get(Path(path).suffix.lower()) or _lacking(content):
            raise UserError(
                f"image {path} is of a type that needs {lacking}: pip install {lacking}"
            ) from None
        raise UserError(
            f"image {path} is corrupt, or of a format that is not read (those that are: "
            f"{', '.join(formats())}); replace it"
        ) from None
    except Exception as error:
        raise unreadable(path, error) from None


def deep_kind(image: Image.Image) -> str:
    """``uint16``, ``int32`` or ``float32`` for a grey picture of more than 8 bits; else empty."""
    return DEEP.get(image.mode, "")


def deep_values(image: Image.Image) -> npt.NDArray[np.float64]:
    """The values of a deep picture: [H, W].

    Pillow reads unsigned 32 bits of TIFF as signed. They are unsigned if no tag says otherwise.
    """
    values, tags = np.asarray(image), getattr(image, "tag_v2", None)
    unsigned = tags is not None and tags.get(SAMPLEFORMAT, (UNSIGNED,))[0] == UNSIGNED
    if image.mode == "I" and unsigned:
        values = values.view(np.uint32)
    return values.astype(np.float64)


@dataclass(frozen=True)
class Decoder:
    """The rules by which a file becomes an RGB picture, the same wherever pictures are read."""

    background: tuple[int, int, int] = (255, 255, 255)
    """What shows through transparent pixels, 0 to 255."""
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """By kind of deep picture: the values that become 0 and 255; what is outside is clipped."""

    def __post_init__(self) -> None:
        if len(self.background) != 3 or any(not 0 <= value <= 255 for value in self.background):
            raise ValueError(f"background = {self.background}: expected three of 0 to 255")
        for kind, (low, high) in self.ranges.items():
            if not -np.inf < low <= high < np.inf:
                raise ValueError(f"range of {kind} = {(low, high)}: expected low to high, finite")

    def read(self, path: str | Path) -> Image.Image:
        """Read a picture.

        Raises:
            UserError: a file that is missing, corrupt, too large, or that these rules refuse.
        """
        return self.decode(content_of(path), path)

    def decode(self, content: bytes, path: str | Path) -> Image.Image:
        """Decode the content of the file at ``path``; see ``read``."""
        try:
            with open_image(content, path) as image:
                _refuse_misread(image, path)
                if (hidden := _transparency(image)) is not None:
                    image.info["transparency"] = hidden
                image.load()
                turn = TURNS.get(_orientation(image) or 1)
                picture = self._rgb(self._eight_bits(image, path))
                return picture if turn is None else picture.transpose(turn)
        except UserError:
            raise
        except Exception as error:  # Pillow's decoders raise many types
            raise unreadable(path, error) from None

    def refusal(self, path: str | Path, kind: str) -> str:
        """Why a deep picture of this kind cannot be read; empty if it can."""
        if kind in self.ranges:
            return ""
        known = ", ".join(self.ranges) or "8 bits alone"
        return (
            f"image {path} has values of type {kind}, and the training images have {known}: "
            "what is black and what is white is not known; convert it"
        )

    def _eight_bits(self, image: Image.Image, path: str | Path) -> Image.Image:
        kind = deep_kind(image)
        if not kind:
            return image
        if refusal := self.refusal(path, kind):
            raise UserError(refusal)
        low, high = self.ranges[kind]
        values = deep_values(image)
        shares = (np.nan_to_num(values, nan=low).clip(low, high) - low) / ((high - low) or 1.0)
        grey = Image.fromarray((shares * 255).round().astype(np.uint8))
        if isinstance(hidden := image.info.get("transparency"), int):
            grey.putalpha(Image.fromarray(np.where(values == hidden, 0, 255).astype(np.uint8)))
        return grey

    def _rgb(self, image: Image.Image) -> Image.Image:
        if image.mode in ("LA", "PA", "RGBA") or "transparency" in image.info:
            shown = image.convert("RGBA")
            under = Image.new("RGBA", shown.size, (*self.background, 255))
            return Image.alpha_composite(under, shown).convert("RGB")
        if image.mode == "LAB":
            lab, rgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
            converted = ImageCms.profileToProfile(image, lab, rgb, outputMode="RGB")
            assert converted is not None  # it is None for a conversion in place
            return converted
        return image if image.mode == "RGB" else image.convert("RGB")


def unreadable(path: str | Path, error: Exception) -> UserError:
    """What to say of a file that Pillow raised ``error`` on."""
    reason = (
        " ".join(str(error).split()).replace(str(path), Path(path).name) or type(error).__name__
    )
    if isinstance(error, Image.DecompressionBombError):
        return UserError(
            f"image {path} is too large ({reason}); scale it down (a small file can hold a picture "
            "that fills the memory, hence a limit)"
        )
    return UserError(f"image {path} is corrupt ({reason}); replace it")


def _lacking(content: bytes) -> str:
    """The package that a picture needs by its first bytes, whatever its name; or nothing."""
    heif = content[4:8] == b"ftyp" and content[8:11] in (b"hei", b"mif")
    return "pillow-heif" if heif else ""


def _orientation(image: Image.Image) -> int | None:
    """The orientation in EXIF, from 1 to 8; None where there is none, or none that can be read."""
    try:
        return image.getexif().get(ORIENTATION)
    except Exception:  # EXIF that is damaged says nothing of the pixels
        return None


def _refuse_misread(image: Image.Image, path: str | Path) -> None:
    """Refuse an open picture whose pixels Pillow would give otherwise than they are meant.

    Raises:
        UserError: a TIFF of unusual numbers, a colour that is transparent in 16 bits, or a picture
            of 16 bits a channel, of which Pillow keeps 8, that would be all but black.
    """
    tags = getattr(image, "tag_v2", {})
    bits, signed = tags.get(BITSPERSAMPLE, (1,)), tags.get(SAMPLEFORMAT, (1,))[0] == SIGNED
    bits = max(bits) if isinstance(bits, tuple) else bits
    misread = ""
    if tags.get(PLANAR_CONFIGURATION) == PLANES and bits > 8:
        misread = "planes of more than 8 bits"
    elif signed and bits <= 8:
        misread = "signed numbers of 8 bits"
    elif tags.get(PHOTOMETRIC_INTERPRETATION) == WHITE_IS_ZERO and bits > 8:
        misread = "more than 8 bits, and white is 0"
    elif isinstance(image.info.get("transparency"), tuple) and _is_wide(image):
        misread = "16 bits a channel, and a colour that is transparent"
    elif _is_wide(image) and image.mode != "CMYK" and not deep_kind(image):
        pixels = np.asarray(image)
        brightest = (pixels[..., :-1] if image.mode in ("LA", "RGBA") else pixels).max()
        if brightest < DARK:
            misread = "16 bits a channel and uses the lower ones alone: the upper 8 are dark"
    if misread:
        raise UserError(
            f"image {path} has {misread}, which is not read right; convert it to 8 bits"
        )


def _is_wide(image: Image.Image) -> bool:
    """Whether a picture has 16 bits a channel in its file."""
    tiles = getattr(image, "tile", ())
    if image.format == "PPM":
        largest = tiles[0].args[-1] if tiles else 0  # 1023 of a P6 file, say
        return isinstance(largest, int) and largest > 255
    return any(tile.codec_name == "SGI16" or ";16" in str(tile.args) for tile in tiles)


def _transparency(image: Image.Image) -> object:
    """What is transparent; Pillow leaves the value as it is in PNG of 2 and 4 bits a pixel."""
    hidden = image.info.get("transparency")
    layouts = [str(tile.args) for tile in getattr(image, "tile", ())]
    for layout, factor in (("L;2", 85), ("L;4", 17)):
        if layout in layouts and isinstance(hidden, int):
            return hidden * factor
    return hidden
