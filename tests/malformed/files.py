"""Files that users bring, lists and images, and the files of runs and their checkpoints."""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import torch
from PIL import Image

import ltvr.evaluate
import ltvr.export
import ltvr.heads
import ltvr.report
import ltvr.train
from malformed.cases import Attempt, kind, pick

TRICK_NAMES = ("a\nerror: b", "\x1b[2J", "\u202egnp", "\udcff", "$\\frac$", "x y")


# ---- lists ----


def lists(place, random, spoil):
    """A good image root with lists, of which ``spoil`` makes the bytes of one anew."""
    for i in range(4):
        Image.new("RGB", (8, 8), (60 * i, 0, 0)).save(place.folder / f"{i}.png")
    good = "".join(f"{i}.png {i % 2}\n" for i in range(4))
    bad = pick(random, "train", "val", "test")
    for split in ("train", "val", "test"):
        content = spoil(good) if split == bad else good
        content = (
            content if isinstance(content, bytes) else content.encode(errors="surrogateescape")
        )
        (place.folder / f"ImageNet_LT_{split}.txt").write_bytes(content)
    arguments = ("--dataset", "imagenet-lt", "--root", ".", "--image-size", "8")
    return Attempt(ltvr.train, arguments)


@kind()
def list_label(random, place):
    label = pick(random, "-1", "1.0", "x", "1e3", "0x1", "²", "+1", "None", "1" * 5000, "nan")
    return lists(place, random, lambda good: good + f"1.png {label}\n")


@kind()
def list_label_out_of_range(random, place):
    label = pick(random, 10**6, 2**31, 2**62, 10**17)
    return lists(place, random, lambda good: good + f"1.png {label}\n")


@kind()
def list_line(random, place):
    line = pick(random, "1.png", "0", "1.png,0", "[1.png, 0]", "1.png;0", '{"1.png": 0}')
    return lists(place, random, lambda good: good + f"{line}\n")


@kind()
def list_of_missing_images(random, place):
    name = pick(random, "gone.png", "/gone/1.png", "../gone.png", ".", "x" * 200, *TRICK_NAMES[1:3])
    return lists(place, random, lambda good: good + f"{name} 1\n")


@kind()
def list_of_impossible_names(random, place):
    name = pick(random, "x" * 300, "a\0b", "x/" * 3000)
    return lists(place, random, lambda good: good + f"{name} 1\n")


@kind()
def list_that_is_empty(random, place):
    return lists(place, random, lambda good: pick(random, "", "\n\n", "   \n", "\r\n"))


@kind()
def list_of_bytes(random, place):
    noise = random.integers(128, 256, 300, np.uint8).tobytes()
    content = pick(random, noise, "Zürich.png 1\n".encode("latin-1"), b"\xff\xfe\x00")
    return lists(place, random, lambda good: good.encode() + content)


@kind()
def list_that_is_no_file(random, place):
    attempt = lists(place, random, lambda good: good)
    path = place.folder / f"ImageNet_LT_{pick(random, 'train', 'val', 'test')}.txt"
    path.unlink()
    if pick(random, True, False):
        path.mkdir()
    return attempt


@kind()
def list_folder(random, place):
    attempt = lists(place, random, lambda good: good)
    lists_folder = pick(random, "gone", "1.png", "/dev/null", *TRICK_NAMES)
    return Attempt(ltvr.train, (*attempt.arguments, "--lists", lists_folder))


# ---- images ----


def images(place, name="bad.png", spoil=None):
    """A good folder of images, and one at ``name`` that ``spoil`` makes or spoils."""
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for split in ("train", "test"):
        for label in ("cat", "dog"):
            folder = place.folder / split / label
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "good.png")
    if spoil is not None:
        path = place.folder / "train" / "cat" / name
        if name.isprintable():
            Image.fromarray(pixels).save(path.with_name("whole.png"))
            path.write_bytes(path.with_name("whole.png").read_bytes())
        spoil(path)
    arguments = ("--dataset", "folder", "--root", ".", "--image-size", "8", "--imbalance", "1")
    return Attempt(ltvr.train, arguments)


def png_of_size(width, height):
    """The beginning of a PNG that says it is so large."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))
    ) + b"\0\0\0\0IEND\xaeB`\x82"


@kind()
def image_cut_off(random, place):
    return images(place, spoil=lambda p: p.write_bytes(p.read_bytes()[: random.integers(1, 90)]))


@kind()
def image_of_bytes(random, place):
    content = pick(
        random, b"", b"\0" * 100, b"text", b"%PDF-1.4\n", b"<svg/>", b"\x89PNG\r\n\x1a\n",
        random.integers(0, 256, 500, np.uint8).tobytes(), b"\x1f\x8b\x08\0", b"PK\3\4",
    )  # fmt: skip
    return images(place, spoil=lambda p: p.write_bytes(content))


@kind()
def image_of_postscript(random, place):
    text = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    return images(place, spoil=lambda p: p.write_bytes(text))


@kind()
def image_bomb(random, place):
    size = pick(random, (50_000, 50_000), (2**31 - 1, 1), (14_000, 14_000))
    return images(place, spoil=lambda p: p.write_bytes(png_of_size(*size)))


@kind()
def image_with_a_name(random, place):
    name = pick(random, *TRICK_NAMES) + ".png"
    return images(place, name, lambda p: p.write_bytes(b"no image"))


@kind()
def image_that_is_no_file(random, place):
    def spoil(path):
        path.unlink()
        pick(random, path.mkdir, lambda: path.symlink_to("gone"), lambda: path.symlink_to(path))()

    return images(place, spoil=spoil)


@kind()
def image_fifo(random, place):
    def spoil(path):
        path.unlink()
        os.mkfifo(path)

    return images(place, spoil=spoil)


@kind()
def image_device(random, place):
    def spoil(path):
        path.unlink()
        path.symlink_to(pick(random, "/dev/full", "/dev/null"))

    return images(place, spoil=spoil)


@kind()
def folder_without(random, place):
    attempt = images(place)
    shutil.rmtree(place.folder / pick(random, "train", "test", "train/cat", "train/dog"))
    return attempt


@kind()
def folder_of_files(random, place):
    attempt = images(place)
    name = pick(random, "train", "test")
    shutil.rmtree(place.folder / name)
    (place.folder / name).write_text("a file")
    return attempt


@kind()
def folder_class_of_the_test_images_alone(random, place):
    attempt = images(place)
    (place.folder / "test" / pick(random, "cow", *TRICK_NAMES)).mkdir()
    return attempt


@kind()
def folder_root(random, place):
    attempt = images(place)
    root = pick(random, "", "gone", "train/cat/good.png", "/dev/null", "/dev/zero", *TRICK_NAMES)
    return Attempt(ltvr.train, (*attempt.arguments, "--root", root))


@kind()
def folder_root_that_no_folder_has(random, place):
    return Attempt(
        ltvr.train, ("--dataset", "folder", "--root", pick(random, "x" * 300, "x/" * 3000))
    )


# ---- files of a run ----

READERS = (ltvr.evaluate, ltvr.export, ltvr.report)


def reader(random, run):
    return Attempt(pick(random, *READERS), (run,))


def rewritten(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


JUNK = (b"", b"{", b"\0\xff", b"nothing", b"[" * 100_000, "{}".encode("utf-16"), b'{"a": 1')
FORMS = (b"null", b"3", b"[]", b'"x"', b"{}", b"true")


@kind()
def manifest_that_is_none(random, place):
    run = place.run()
    (run / "manifest.json").write_bytes(pick(random, *JUNK))
    return reader(random, run)


@kind()
def manifest_of_another_form(random, place):
    run = place.run()
    (run / "manifest.json").write_bytes(pick(random, *FORMS))
    return reader(random, run)


@kind()
def manifest_field(random, place):
    run = place.run()
    field, value = pick(
        random, ("classes", None), ("classes", 3), ("splits", None), ("splits", [3]),
        ("splits", {"train": 3}), ("splits", {"train": {}}),
    )  # fmt: skip
    rewritten(run / "manifest.json", lambda m: m.update({field: value}))
    return Attempt(ltvr.evaluate, (run,))


@kind()
def manifest_without(random, place):
    run = place.run()
    field = pick(random, "classes", "splits")
    rewritten(run / "manifest.json", lambda m: m.pop(field))
    return Attempt(ltvr.evaluate, (run,))


@kind()
def run_without_manifest(random, place):
    run = place.run()
    (run / "manifest.json").unlink()
    return reader(random, run)


@kind()
def manifest_of_other_images(random, place):
    run = place.run()
    split = pick(random, "train", "test")
    rewritten(run / "manifest.json", lambda m: m["splits"][split].update({"sha256": "0" * 64}))
    return Attempt(pick(random, ltvr.evaluate, ltvr.report), (run,))


@kind()
def config_that_is_none(random, place):
    run = place.run()
    (run / "config.yaml").write_bytes(pick(random, b"{", b"\0\xff", b"nothing", b"[" * 5000, b"3"))
    return reader(random, run)


@kind()
def config_field(random, place):
    run = place.run()
    name = pick(random, "epochs", "stages", "dataset", "mean", "decomposition", "lr", "gama")
    text = (run / "config.yaml").read_text()
    kept = [line for line in text.splitlines() if not line.startswith(f"{name}:")]
    line = f"{name}: {pick(random, '{a: 1}', '.nan', '[[]]', 'x')}"
    (run / "config.yaml").write_text("\n".join([*kept, line]))
    return reader(random, run)


@kind()
def config_of_another_architecture(random, place):
    run = place.run()
    old, new = pick(
        random,
        ("decomposition: afa", "decomposition: none"),
        ("image_size: 16", "image_size: 32"),
        ("reduction: 16", "reduction: 8"),
        ("insert_after: layer3", "insert_after: layer2"),
    )
    text = (run / "config.yaml").read_text()
    assert old in text
    (run / "config.yaml").write_text(text.replace(old, new))
    return Attempt(ltvr.export, (run,))


@kind()
def config_that_is_missing(random, place):
    run = place.run()
    (run / "config.yaml").unlink()
    if pick(random, True, False):
        (run / "config.yaml").mkdir()
    return reader(random, run)


@kind()
def config_of_0_1_without_fields(random, place):
    run = place.run()
    values = {"crt_epochs": 1, "epochs": 2, "method": "ltvr", "mask_gain": 1.0}
    values.pop(pick(random, *values.keys() - {"crt_epochs"}))
    (run / "config.yaml").write_text(json.dumps(values))
    return reader(random, run)


@kind()
def stages_json(random, place):
    run = place.run()
    values = {
        "crt_epochs": 1, "epochs": 2, "method": "baseline", "mask_gain": 1.0, "lay_back_epoch": 1,
        "stage1_batchnorm": "running",
    }  # fmt: skip
    (run / "config.yaml").write_text(json.dumps(values))
    forms = (b'{"stages": [3], "command": "x"}', b'{"stages": 1}', b'{"command": "x"}')
    (run / "stages.json").write_bytes(pick(random, *JUNK, *FORMS, *forms))
    return reader(random, run)


@kind()
def summary_that_is_none(random, place):
    run = place.run()
    (run / "summary.json").write_bytes(
        pick(random, *JUNK, *FORMS, b'{"metrics": 3}', b'{"metrics": {}}')
    )
    return Attempt(ltvr.report, (run,))


@kind()
def summary_that_is_missing(random, place):
    run = place.run()
    (run / "summary.json").unlink()
    return Attempt(ltvr.report, (run,))


@kind()
def records_that_are_none(random, place):
    run = place.run()
    lines = (run / "metrics.jsonl").read_bytes().splitlines()
    lines[random.integers(2)] = pick(random, b"{", b"3", b"{}", b"\0\xff", b"[]", b'{"stage": 1}')
    (run / "metrics.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return pick(
        random,
        Attempt(ltvr.report, (run, "--no-masks")),
        Attempt(ltvr.train, ("--resume", run)),
    )


# ---- checkpoints ----


def checkpoint(place, name, change):
    """A copy of the run, of whose checkpoint ``name`` ``change`` makes what is saved instead."""
    run = place.run()
    state = torch.load(run / name, weights_only=True)
    changed = change(state)
    torch.save(state if changed is None else changed, run / name)
    return run


@kind()
def checkpoint_cut_off(random, place):
    run = place.run()
    content = (run / "final.pt").read_bytes()
    (run / "final.pt").write_bytes(content[: random.integers(0, len(content))])
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def checkpoint_of_bytes(random, place):
    run = place.run()
    noise = random.integers(0, 256, 500, np.uint8).tobytes()
    (run / "final.pt").write_bytes(pick(random, b"", b"text", noise, b"PK\3\4", b"\x80\2."))
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def checkpoint_with_a_flipped_bit(random, place):
    run = place.run()
    content = bytearray((run / "final.pt").read_bytes())
    at = len(content) // 2 + int(random.integers(len(content) // 4))  # within the weights
    content[at] ^= 1 << int(random.integers(8))
    (run / "final.pt").write_bytes(content)
    return Attempt(ltvr.evaluate, (run,))


@kind()
def checkpoint_of_another_form(random, place):
    values = ([], 3, None, "x", {}, {"weights": {}}, torch.ones(3), {"state_dict": {}})
    run = checkpoint(
        place, "final.pt", lambda state: pick(random, [values[1]], *values[3:], values)
    )
    return Attempt(ltvr.evaluate, (run,))


@kind()
def checkpoint_with_code(random, place):
    run = place.run()
    torch.save({"model": pick(random, Image.new, struct.Struct, zlib.crc32)}, run / "final.pt")
    return Attempt(ltvr.evaluate, (run,))


@kind()
def checkpoint_whose_model_is_none(random, place):
    model = pick(random, 3, None, True)
    run = checkpoint(place, "final.pt", lambda state: state.update(model=model))
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def checkpoint_whose_model_has_no_weights(random, place):
    model = pick(random, [], "x", {}, {"a": 3}, {"classifier.weight": [1.0]}, {3: 3})
    run = checkpoint(place, "final.pt", lambda state: state.update(model=model))
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def checkpoint_of_other_weights(random, place):
    def change(state):
        name = pick(random, *state["model"])
        if pick(random, True, False):
            del state["model"][name]
        else:
            state["model"][name] = torch.zeros(1, 2, 3, 4, 5)

    return Attempt(ltvr.evaluate, (checkpoint(place, "final.pt", change),))


@kind()
def checkpoint_of_a_newer_format(random, place):
    number = pick(random, 99, -1, "x", None, 2.5, [2])
    run = checkpoint(place, "final.pt", lambda state: state.update(format=number))
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def checkpoint_of_an_unknown_stage(random, place):
    stage = pick(random, "rest", "", 3, None, ["crt"])
    run = checkpoint(place, "final.pt", lambda state: state.update(stage=stage))
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run,))


@kind()
def last_checkpoint_without(random, place):
    field = pick(random, "optimizer", "epoch", "step", "stage")
    run = checkpoint(place, "last.pt", lambda state: state.__delitem__(field))
    return Attempt(ltvr.train, ("--resume", run))


@kind()
def last_checkpoint_field(random, place):
    field, value = pick(random, "optimizer", "epoch", "stage"), pick(random, "x", [1])
    run = checkpoint(place, "last.pt", lambda state: state.update({field: value}))
    return Attempt(ltvr.train, ("--resume", run))


@kind()
def last_checkpoint_that_is_missing(random, place):
    run = place.run()
    (run / "last.pt").unlink()
    if pick(random, True, False):
        (run / "last.pt").mkdir()
    return Attempt(ltvr.train, ("--resume", run))


@kind()
def checkpoint_that_is_missing(random, place):
    run = place.run()
    name = pick(random, "final.pt", "features.pt")
    (run / name).unlink()
    return Attempt(pick(random, ltvr.evaluate, ltvr.export), (run / name,))


@kind()
def start_from_a_checkpoint_of_another_run(random, place):
    run = checkpoint(place, "features.pt", lambda state: state["model"].clear())
    return Attempt(ltvr.train, ("--stages", "crt", "--from", run))


@kind()
def heads_of_a_spoilt_first_stage(random, place):
    run = place.run()
    content = (run / "features.pt").read_bytes()
    damage = (b"", content[: len(content) // 3], b"text")
    (run / "features.pt").write_bytes(pick(random, *damage))
    return Attempt(ltvr.heads, (pick(random, run, run / "features.pt"),))
