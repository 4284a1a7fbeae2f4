"""Values of options: on the command line, in YAML, and from Python."""

import datetime
import os
import typing

import numpy as np
import torch
from PIL import Image

import ltvr.evaluate
import ltvr.export
import ltvr.heads
import ltvr.predict
import ltvr.report
import ltvr.train
from ltvr.config.command_line import flag
from ltvr.config.options import options_of
from ltvr.settings import SCHEMA, load_config
from malformed.cases import Attempt, kind, pick

TRICKS = ("a\nerror: b", "\x1b[2J", "\u202egnp", "\udcff", "", "x" * 5000, "$\\frac$", "\0")
NOT_INTS = ("1.5", "nan", "", "ten", "1e3", "0x10", str(2**64), str(-(2**64)), "1" * 5000, "\udcff")
NOT_FLOATS = ("nan", "inf", "-inf", "1e300", "-1e300", "", "much", "1,5", "0x10", "9" * 5000)


def train(*arguments):
    return Attempt(ltvr.train, arguments)


def numbers_and_texts(*kinds):
    """Options that are numbers, texts, ... but not choices."""
    return [o for o in SCHEMA.options.values() if o.choices is None and o.kind in kinds]


def any_option(random, *kinds):
    return pick(random, *numbers_and_texts(*kinds))


def choices():
    return [o for o in SCHEMA.options.values() if o.choices is not None]


# ---- on the command line ----


@kind()
def option_whole_number(random, place):
    return train(f"{flag(any_option(random, int).name)}={pick(random, *NOT_INTS)}")


@kind()
def heads_option(random, place):
    number = pick(random, *NOT_INTS, "-3")
    whole = pick(random, f"--views={number}", f"--choose-on={number}")
    factor = f"--lr-factors={pick(random, *NOT_FLOATS, '0', '-1')}"
    other = pick(random, "--heads=knn", "--crt-epochs=0", "--crt-batchnorm=train")
    return Attempt(ltvr.heads, (place.run(), pick(random, whole, factor, other)))


@kind()
def option_number(random, place):
    return train(
        f"{flag(any_option(random, float, float | None).name)}={pick(random, *NOT_FLOATS)}"
    )


@kind()
def option_three_numbers(random, place):
    values = ["0.5", "0.5", "0.5"]
    values[random.integers(3)] = pick(random, *NOT_FLOATS)
    values = values[: pick(random, 1, 2, 3)] if "" not in values else values
    values[0] = pick(random, "nan", "inf", "1e300", "x", "")
    return train(pick(random, "--mean", "--std"), *values)


@kind()
def option_list_of_numbers(random, place):
    return train("--milestones", "0.5", pick(random, "0", "1", "nan", "inf", "x", "", "-1e-3", "2"))


@kind()
def option_choice(random, place):
    return train(f"{flag(pick(random, *choices()).name)}={pick(random, *TRICKS, 'nothing', '0')}")


@kind()
def option_yes_or_no(random, place):
    option = pick(random, *(o for o in SCHEMA.options.values() if o.kind is bool))
    return train(f"{flag(option.name)}={pick(random, 'yes', '1', '', *TRICKS)}")


@kind()
def option_unknown(random, place):
    return train(pick(random, "--gama", "--learning-rate", "-lr", "--", "--lr\n", *TRICKS), "1")


@kind()
def option_without_value(random, place):
    return train(flag(any_option(random, int, float, str).name))


@kind()
def option_of_another_component(random, place):
    config = load_config("digits", "baseline")
    unused = [o for k in SCHEMA.classes if k not in config.in_use for o in options_of(k)]
    option = pick(random, *(o for o in unused if o.kind is not bool))
    default = option.default if option.default is not None else 0.5
    return train("--method", "baseline", flag(option.name), default)


@kind()
def option_that_changes_nothing(random, place):
    given = pick(random, "--method baseline --fused", "--lr-decay 0.5", "--method focal --fused")
    return train(*given.split())


@kind()
def option_too_large_for_memory(random, place):
    size = pick(random, 10**5, 10**6, 2**31 - 1)
    return train("--image-size", size, "--stages", "features", "--lay-back-start", "0")


@kind()
def option_crop_too_large_for_memory(random, place):
    padding = pick(random, 10**7, 2**30, 2**31 - 1)
    return train("--crop-padding", padding, "--method", "baseline")


@kind()
def option_batch_of_more_images_than_there_are(random, place):
    return train("--batch-size", pick(random, 5000, 10**9, 2**31 - 1), "--method", "baseline")


@kind()
def option_reduction(random, place):
    return train("--reduction", pick(random, 257, 10**6, 2**31 - 1))


@kind()
def option_insert_after(random, place):
    names = ("", "layer", "layer0", "fc", *(t for t in TRICKS if t != "\udcff"))
    return train("--insert-after", pick(random, *names))


@kind()
def option_that_is_not_utf_8(random, place):
    return train("--insert-after", "layer\udcff")


@kind()
def option_backbone(random, place):
    name = pick(random, "", "resnet", "timm:", "timm:nothing", "resnet50 ", "../x", *TRICKS)
    return train("--backbone", name)


@kind()
def preset_that_is_no_file(random, place):
    os.mkfifo("fifo")
    (place.folder / "folder.yaml").mkdir()
    (place.folder / "loop").symlink_to("loop")
    names = ("fifo", "folder.yaml", "loop", ".", "/dev/zero", "/dev/stdin", "gone", "x" * 300)
    return train(pick(random, "--preset", "--method"), pick(random, *names, *TRICKS))


@kind()
def preset_that_cannot_be_read(random, place):
    return train("--preset", pick(random, "/proc/self/mem", "/proc/kpageflags", "/bin/sh"))


@kind()
def name_outside_of_out(random, place):
    name = pick(random, "../../x", "..", "/tmp/x", "a/../../b", "../x")
    return train("--name", name, "--stages", "features", "--epochs", "0", "--method", "baseline")


@kind()
def name_that_is_too_long(random, place):
    return train("--name", pick(random, "x" * 300, "x/" * 3000), "--method", "baseline")


@kind()
def name_that_no_folder_has(random, place):
    return train("--name", pick(random, "\0", "a\0b"), "--method", "baseline")


@kind()
def out_that_is_no_folder(random, place):
    (place.folder / "file").write_text("")
    return train("--out", pick(random, "file", "file/x", "/dev/null", "/proc/none"))


@kind()
def resume_nothing(random, place):
    return train("--resume", pick(random, "", "gone/last.pt", "x" * 300))


@kind()
def resume_a_checkpoint_that_is_not_there(random, place):
    return train("--resume", place.run() / pick(random, "nothing.pt", "stage3.pt"))


@kind()
def resume_what_is_no_run(random, place):
    (place.folder / "empty").mkdir()
    return train("--resume", pick(random, "gone", "empty", ".", "/dev/null", *TRICKS[:4]))


@kind()
def resume_with_other_options(random, place):
    return train("--resume", place.finished, *pick(random, ("--lr", "1"), ("--name", "x")))


@kind()
def from_what_is_no_run(random, place):
    (place.folder / "empty").mkdir()
    return train("--stages", "crt", "--from", pick(random, "gone", "empty", ".", *TRICKS[:4]))


@kind()
def export_to_where_it_cannot(random, place):
    (place.folder / "model.onnx").mkdir()
    out = pick(random, "model.onnx", "gone/model.onnx", "model.pt2", "model", "last.pt", "/")
    return Attempt(ltvr.export, (place.finished, "--out", out, "--format", "onnx"))


@kind()
def argument_of_a_command(random, place):
    module, *rest = pick(
        random,
        (ltvr.evaluate, "--split", "all"),
        (ltvr.evaluate, "--device", "tpu"),
        (ltvr.predict, "--top", "few"),
        (ltvr.export, "--format", "tflite"),
        (ltvr.report, "--mask"),
        (ltvr.evaluate, "--fused=1"),
    )
    return Attempt(module, (place.finished, *rest))


@kind()
def command_without_a_run(random, place):
    module = pick(random, ltvr.evaluate, ltvr.export, ltvr.report)
    return Attempt(module, pick(random, (), ("gone",), (".",), ("",), ("\udcff\n",), ("x" * 300,)))


@kind()
def json_that_cannot_be_written(random, place):
    (place.folder / "x.json").mkdir()
    return Attempt(ltvr.evaluate, (place.finished, "--json", pick(random, "x.json", ".", "/")))


@kind()
def top_of_no_class(random, place):
    image = place.folder / "a.png"
    Image.new("RGB", (16, 16)).save(image)
    return Attempt(ltvr.predict, (place.finished, image, "--top", pick(random, -1, 0, -(2**40))))


# ---- in YAML ----


def yaml(place, content, option="--preset"):
    path = place.folder / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return train(option, "mine.yaml")


YAML_VALUES = {
    int: ("1.5", "true", "'x'", "[1]", "{a: 1}", "~", ".inf", "2020-01-01", "1:30", "0x10", '""'),
    float: (
        "true",
        "x",
        "[1]",
        "{a: 1}",
        "~",
        ".nan",
        ".inf",
        "1e300",
        "2020-01-01",
        '""',
        "!!set {}",
    ),
    bool: ("1", "0", "'true'", "x", "~", "[true]", '""', "1.0"),
    str: ("1", "1.5", "true", "~", "[a]", "{a: b}", '"\\0"', "2020-01-01", "!!binary YQ=="),
}


@kind()
def yaml_value_of_another_type(random, place):
    of = pick(random, *YAML_VALUES)
    option = any_option(random, of)
    return yaml(place, f"{option.name}: {pick(random, *YAML_VALUES[of])}\n")


@kind()
def yaml_choice(random, place):
    option = pick(random, *choices())
    value = pick(random, "1", "~", "{a: 1}", "nothing", '""', '"\\e[2J"', "true", "[[]]", '"\\0"')
    return yaml(place, f"{option.name}: {value}\n")


@kind()
def yaml_three_numbers(random, place):
    value = pick(
        random,
        "0.5",
        "[1, 1]",
        "[1, 1, x]",
        "[1, 1, ~]",
        "[1, 1, .nan]",
        "{a: 1}",
        "[[1], 1, 1]",
        "[]",
        "~",
        "x",
        "[true, 1, 1]",
    )
    return yaml(place, f"{pick(random, 'mean', 'std')}: {value}\n")


@kind()
def yaml_key(random, place):
    key = pick(
        random,
        "gama",
        "3",
        "~",
        "true",
        "[a]",
        "{a: b}",
        '"lr\\n"',
        "2020-01-01",
        '""',
        '"\\uDCFF"',
    )
    return yaml(place, f"? {key}\n: 1\n")


@kind()
def yaml_key_twice(random, place):
    name = any_option(random, int, float).name
    return yaml(
        place,
        f"{name}: 1\nseed: 3\n{name}: 2\n".replace(
            "seed: 3\n", "" if name == "seed" else "seed: 3\n"
        ),
    )


@kind()
def yaml_of_aliases(random, place):
    levels = int(random.integers(3, 12))
    lines = ["a0: &a0 [x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return yaml(place, pick(random, "\n".join(lines), "a: &a [*a]", "a: &a {<<: *a}", "b: *gone"))


@kind()
def yaml_nested(random, place):
    depth = pick(random, 900, 5000, 40000)
    return yaml(place, pick(random, "[" * depth, "{a: " * depth, "- " * depth, "? " * depth))


@kind()
def yaml_large(random, place):
    number = int(random.integers(120_000, 3_000_000))
    return yaml(place, pick(random, b"# ", b"a: ", b"\n", b"\0") + b"x" * number)


@kind()
def yaml_that_is_none(random, place):
    text = pick(
        random,
        "- a",
        "x",
        "3",
        "a: [",
        "a: b: c",
        "\ta: 1",
        "'a",
        "%YAML 9",
        "a: 1\n---\nb: 2",
        "@",
        "a: !x 1",
        "false",
        "[]",
    )
    return yaml(place, text, pick(random, "--preset", "--method"))


@kind()
def yaml_of_bytes(random, place):
    noise = random.integers(0, 256, 300, np.uint8).tobytes()
    content = pick(
        random,
        noise + b"\xff",
        b"\0",
        "root: Zürich".encode("latin-1"),
        "lr: 1".encode("utf-16"),
        b"lr: 1\x1b\n",
    )
    return yaml(place, content)


@kind()
def yaml_tag(random, place):
    value = pick(
        random, "!!python/object:os.system {}", "!!python/name:os.system", "!!int ''", "!!bool x",
        "!!float ''", "!!timestamp x", "!!python/tuple [1]", "!!omap 3", "!!binary [", "!!null x",
    )  # fmt: skip
    return yaml(place, f"epochs: {value}\n")


@kind()
def yaml_label(random, place):
    key, argument = pick(
        random,
        ("preset: digits", "--preset"),
        ("method: focal", "--method"),
        ("preset: digits", "--method"),
        ("method: 3", "--preset"),
        ("method: gone", "--preset"),
        ("method: [ltvr]", "--preset"),
    )
    return yaml(place, f"{key}\nlr: 1\n", argument)


# ---- from Python ----


def wrong(random, option):
    """A value of a type or range that ``option`` cannot have."""
    several, values = typing.get_origin(option.kind) is tuple, [
        object(), b"x", {}, {1, 2}, 1j, torch.tensor(3.0), torch.ones(3), datetime.date(2020, 1, 1),
        len, [[1]], np.ones((2, 2)), [None, object()],
    ]  # fmt: skip
    if option.kind in (int, float, float | None):
        values += [True, np.nan, np.inf, -np.inf, 1e300, 10**5000, -(10**400), [], (1,), "x", ""]
    if option.kind is int:
        values += [1.0, np.float64(1), "1", None, 2**64]
    if option.kind is bool:
        values += [0, 1, None, "true", np.int64(1)]
    if not several and (option.kind is str or option.choices):
        values += [None, 1, True, [], ("digits",), "\0"]
    if several:
        values += [3, ("x", "y"), (object(),), [b"x"], (True,), (np.nan, 1, 1)]
    return pick(random, *values)


@kind()
def python_config(random, place):
    option = pick(random, *SCHEMA.options.values())
    value = wrong(random, option)
    return Attempt(lambda: SCHEMA.config({option.name: value}))


@kind()
def python_dataclass(random, place):
    owner = pick(random, *(k for k in SCHEMA.classes if options_of(k)))
    option = pick(random, *options_of(owner))
    value = wrong(random, option)
    return Attempt(lambda: owner(**{option.name: value}))


@kind()
def python_replaced(random, place):
    option = pick(random, *SCHEMA.options.values())
    value, config = wrong(random, option), load_config("digits")
    return Attempt(lambda: config.replaced(**{option.name: value}))


@kind()
def python_overrides(random, place):
    option = pick(random, *SCHEMA.options.values())
    value = wrong(random, option)
    return Attempt(lambda: load_config("digits", "ltvr", {option.name: value}))


@kind()
def python_load_config(random, place):
    value = pick(random, 3, None, b"digits", ["digits"], object(), 1.5, True, *TRICKS)
    preset, method = pick(random, (value, None), ("digits", value if value else 3))
    return Attempt(lambda: load_config(preset, method))


@kind()
def python_name(random, place):
    name = pick(random, 3, None, "", "Lr", "lr ", b"lr", ("lr",), 2.5, "\udcff", "x" * 10**6)
    return Attempt(lambda: SCHEMA.config({name: 1}))
