"""One file as an RGB picture: each rule against pixels that are known."""

import os
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from ltvr.data.images import ORIENTATION, TURNS, Decoder, is_image
from ltvr.errors import UserError

GREY = np.linspace(0, 255, 8 * 12).reshape(8, 12).astype(np.uint8)
COLOUR = np.stack([GREY, GREY[::-1], GREY[:, ::-1]], 2)


def pixels(path, **rules):
    return np.asarray(Decoder(**rules).read(path))


def write_png(path, values, colour_type):
    """A PNG of 16 bits a channel, which Pillow does not write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, colour_type, 0, 0, 0)
    write_chunks(path, ((b"IHDR", header), (b"IDAT", zlib.compress(rows))))


def write_chunks(path, chunks):
    """A PNG of these chunks."""
    content = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in (*chunks, (b"IEND", b""))
    )
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("ending", ["png", "tiff", "webp", "jpg"])
def test_orientation(tmp_path, orientation, ending):
    image = Image.fromarray(COLOUR)
    upright = image.transpose(TURNS[orientation])
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / f"turned.{ending}"
    image.save(path, exif=exif, **({"lossless": True} if ending == "webp" else {"quality": 100}))
    found = pixels(path)
    assert found.shape == np.asarray(upright).shape
    assert np.abs(found.astype(int) - np.asarray(upright)).mean() < 10  # JPEG loses some


def test_damaged_exif_says_nothing_of_the_pixels(tmp_path):
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert (pixels(tmp_path / "a.png") == COLOUR).all()


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "16 bits"])
def test_transparent_pixels_show_the_background(tmp_path, mode):
    path, alpha = tmp_path / "a.png", np.where(GREY > 100, 255, 0).astype(np.uint8)
    if mode == "P":
        image = Image.fromarray(COLOUR).quantize(8)
        image.save(path, transparency=3)
        hidden = np.asarray(image) == 3
    elif mode == "16 bits":
        Image.fromarray((GREY * 3).astype(np.uint16)).save(path, transparency=0)
        hidden = GREY * 3 == 0
    else:
        layers = np.dstack([COLOUR, alpha] if mode == "RGBA" else [GREY, alpha])
        Image.fromarray(layers, mode).save(path)
        hidden = alpha == 0
    found = pixels(path, background=(10, 20, 30), ranges={"uint16": (0, 765)})
    assert hidden.any() and (found[hidden] == (10, 20, 30)).all()
    if mode in ("RGBA", "LA"):
        colours = COLOUR if mode == "RGBA" else np.dstack([GREY] * 3)
        assert (found[~hidden] == colours[~hidden]).all()


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_deep_images_take_the_range_of_the_training_images(tmp_path, dtype):
    path, kind = tmp_path / "deep.tiff", np.dtype(dtype).name
    scale = 1 / 255 if dtype is np.float32 else 1.5
    Image.fromarray((GREY * scale).astype(dtype)).save(path)
    found = pixels(path, ranges={kind: (0.0, 255 * scale)})
    assert np.abs(found.astype(int) - GREY[..., None]).max() <= 1
    clipped = pixels(path, ranges={kind: (0.0, 100 * scale)})
    assert (clipped[GREY > 100] == 255).all() and 0 < clipped[0, 5].max() < 255
    with pytest.raises(UserError, match=f"type {kind}, and the training images have 8 bits"):
        pixels(path)


@pytest.mark.parametrize(("colour_type", "channels"), [(2, 3), (6, 4), (4, 2)])
def test_colours_of_16_bits(tmp_path, colour_type, channels):
    values = np.dstack([GREY] * channels).astype(np.uint16)
    if channels != 3:
        values[..., -1] = 255
    write_png(tmp_path / "wide.png", values * 257, colour_type)
    assert (pixels(tmp_path / "wide.png") == GREY[..., None]).all()
    values[..., : 3 if channels > 2 else 1] //= 2  # at most 127 of 65535: black in 8 bits
    write_png(tmp_path / "dark.png", values, colour_type)
    with pytest.raises(UserError, match=r"dark\.png has 16 bits a channel.* convert it"):
        pixels(tmp_path / "dark.png")


@pytest.mark.parametrize("bits", [2, 4])
def test_transparent_grey_of_few_bits(tmp_path, bits):
    top = 2**bits - 1
    rows = b"\0" + bytes([0b00_01_10_11] if bits == 2 else [0x01, 0x2F])
    header = struct.pack(">IIBBBBB", 4, 1, bits, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"tRNS", struct.pack(">H", 1)), (b"IDAT", zlib.compress(rows)))
    write_chunks(tmp_path / "a.png", chunks)
    found = pixels(tmp_path / "a.png", background=(9, 9, 9))[0, :, 0].tolist()
    assert found == [0, 9, 2 * 255 // top, 255]


@pytest.mark.parametrize("mode", ["L", "P", "I;16", "RGBA", "RGB"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_tiff_of_any_kind_is_turned_once(tmp_path, mode, orientation):
    """Pillow maps some TIFF files into memory, by a size that is turned already."""
    image = Image.fromarray(GREY.astype(np.uint16) if mode == "I;16" else GREY)
    image = image if mode in ("L", "I;16") else image.convert(mode)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / "a.tiff", exif=exif)
    upright = Image.fromarray(GREY)
    upright = upright.transpose(TURNS[6]) if orientation == 6 else upright
    found = pixels(tmp_path / "a.tiff", ranges={"uint16": (0, 255)})
    assert np.abs(found[..., 1].astype(int) - np.asarray(upright)).max() <= 1


def test_a_look_at_a_file_reads_its_start_alone(tmp_path):
    with (tmp_path / "archive").open("wb") as file:
        file.truncate(50_000_000)
    is_image(tmp_path / "archive")  # loads Pillow's plug-ins
    tracemalloc.start()
    assert not is_image(tmp_path / "archive")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


@pytest.mark.parametrize("tag", [(339, 1), (65000, 1)], ids=["unsigned", "no SampleFormat"])
def test_unsigned_numbers_of_32_bits(tmp_path, tag):
    values = np.array([[0, 2**31, 2**32 - 1]], np.uint32)
    Image.fromarray(values.view(np.int32)).save(tmp_path / "a.tiff")
    signed, unsigned = (struct.pack("<HHIH", key, 3, 1, kind) for key, kind in ((339, 2), tag))
    content = (tmp_path / "a.tiff").read_bytes()
    assert signed in content
    (tmp_path / "a.tiff").write_bytes(content.replace(signed, unsigned))
    found = pixels(tmp_path / "a.tiff", ranges={"int32": (0.0, 2.0**32 - 1)})
    assert found[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize(
    ("array", "info", "words"),
    [
        (GREY.astype(np.uint16), {262: 0}, "more than 8 bits, and white is 0"),
        (GREY, {339: 2}, "signed numbers of 8 bits"),
    ],
)
def test_numbers_that_pillow_misreads_are_refused(tmp_path, array, info, words):
    Image.fromarray(array).save(tmp_path / "a.tiff", tiffinfo=info)
    with pytest.raises(UserError, match=words):
        pixels(tmp_path / "a.tiff", ranges={"uint16": (0, 255)})


@pytest.mark.parametrize(
    ("mode", "ending", "near"),
    [("CMYK", "tiff", 0), ("CMYK", "jpg", 8), ("YCbCr", "jpg", 8), ("1", "png", 0)],
)
def test_other_colours_are_as_pillow_converts_them(tmp_path, mode, ending, near):
    image = Image.fromarray(COLOUR).convert(mode)
    image.save(tmp_path / f"a.{ending}", quality=100)
    expected = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(pixels(tmp_path / f"a.{ending}") - expected).mean() <= near


def test_lab_is_not_taken_for_red_green_blue(tmp_path):
    lab = [Image.new("L", (4, 4), value) for value in (255, 128, 128)]  # white
    Image.merge("LAB", lab).save(tmp_path / "a.tiff")
    assert (pixels(tmp_path / "a.tiff") >= 254).all()


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tiff"])
def test_the_first_of_several_frames(tmp_path, ending):
    frames = [Image.new("RGB", (4, 4), (value,) * 3) for value in (255, 0, 0)]
    frames[0].save(tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:])
    assert (pixels(tmp_path / f"a.{ending}") >= 254).all()


def test_what_is_no_picture_is_refused_by_name(tmp_path, monkeypatch):
    Image.fromarray(COLOUR).save(tmp_path / "good.png")
    content = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:-40])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "script.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (tmp_path / "folder.png").mkdir()
    os.mkfifo(tmp_path / "pipe.png")
    for name, words in {
        "cut.png": "is corrupt",
        "empty.jpg": "is corrupt, or of a format that is not read",
        "script.png": "is corrupt, or of a format that is not read",
        "phone.heic": "needs pillow-heif",
        "folder.png": "is a folder",
        "pipe.png": "is a pipe",
        "gone.png": "is missing",
    }.items():
        assert not is_image(tmp_path / name) or name == "cut.png"
        with pytest.raises(UserError, match=words):
            pixels(tmp_path / name)
    assert is_image(tmp_path / "good.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(UserError, match=r"good.png is too large .*96 pixels.*; scale it down"):
        pixels(tmp_path / "good.png")
