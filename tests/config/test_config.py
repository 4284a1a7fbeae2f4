"""Options are declared once, found by file, checked by range, and written whole."""

import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import yaml

from ltvr.config.command_line import Parser, add_arguments, given
from ltvr.config.config import Schema
from ltvr.config.options import Options, option, options_of
from ltvr.config.run import RunOptions
from ltvr.config.slots import Slot
from ltvr.decompositions.options import GenerationOptions
from ltvr.errors import UserError
from ltvr.losses import LOSSES
from ltvr.losses.base import Loss
from ltvr.losses.focal import FocalOptions
from ltvr.settings import SCHEMA, load_config, methods, presets, save_config, with_method
from ltvr.stages.base import Stage
from ltvr.stages.features import FeaturesOptions


@pytest.mark.parametrize("method", methods())
@pytest.mark.parametrize("preset", presets())
def test_any_method_goes_with_any_preset_and_is_written_whole(preset, method, tmp_path):
    config = load_config(preset, method, {"seed": 5})
    found = config.flat()
    assert (found["preset"], found["method"], found["seed"]) == (preset, method, 5)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == config
    written = yaml.safe_load((tmp_path / "config.yaml").read_text())
    for kind in config.in_use:  # whatever the run depends on is written, default or not
        assert set(vars(config.of(kind))) <= set(written)


@pytest.mark.parametrize("preset", presets())
def test_a_presets_own_method_is_the_method_by_name(preset):
    own = load_config(preset)
    assert load_config(preset, own.flat()["method"]) == own


def test_what_is_said_later_counts(tmp_path):
    (tmp_path / "mine.yaml").write_text("method: focal\nfocal_gamma: 3\nlr: 0.1\n")
    preset = str(tmp_path / "mine.yaml")
    assert load_config(preset).of(FocalOptions).focal_gamma == 3  # over the method it names
    assert load_config(preset, "focal").of(FocalOptions).focal_gamma == 2  # asked for after it
    config = load_config(preset, "focal", {"focal_gamma": 1.0})
    assert (config.of(FocalOptions).focal_gamma, config.of(FeaturesOptions).lr) == (1, 0.1)
    save_config(config, tmp_path / "config.yaml")  # a run's: whole, and no method comes over it
    assert load_config(str(tmp_path / "config.yaml")) == config


def test_only_the_options_of_chosen_components_are_in_use():
    def used(method):
        return {kind.__name__ for kind in load_config("digits", method).in_use}

    assert {"AFAOptions", "GenerationOptions"} <= used("ltvr")
    assert not {"AFAOptions", "FocalOptions", "MixupOptions"} & used("baseline")
    assert "FocalOptions" in used("focal") and "MixupOptions" in used("mixup")
    assert "CosineOptions" in used("cosine")
    assert load_config("digits", "baseline").architecture().keys() == {
        "image_size", "backbone", "stem", "decomposition", "embedding_layer", "classifier"
    }  # fmt: skip


def test_every_option_has_a_range_that_holds_its_default():
    for kind in SCHEMA.classes:
        kind()
    assert len(SCHEMA.options) == len({name.replace("_", "-") for name in SCHEMA.options})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lr": float("nan")}, "lr = nan: expected at least 0, finite"),
        ({"mean": (0.1, float("inf"), 0.1)}, "mean = inf"),
        ({"mean": (0.1, 0.1)}, "mean = .* expected three numbers"),
        ({"mixup_alpha": 0}, "mixup_alpha = 0.0: expected above 0"),
        ({"ema": 1.0}, "ema = 1.0: expected at least 0, below 1"),
        ({"stages": ("features", "rest")}, "stages = 'rest': expected one of crt, features"),
        ({"decomposition": "senet"}, "decomposition = 'senet': expected one of afa, cbam"),
        ({"gama": 1}, "unknown field 'gama'; did you mean gamma"),
        ({"std": (0.1, float("nan"), 0.1)}, "std = nan: expected above 0, finite"),
        ({"std": (0.1, 1e-300, 0.1)}, "std = 1e-300: expected above 0"),
        (
            {"value_scale": float("nan")},
            "value_scale = nan: expected at least 0, at most 10000, finite",
        ),
        ({"lr": 1e300}, r"lr = 1e\+300: expected at least 0, finite .up to 1e\+18 in size"),
        ({"lr": 10**400}, "lr = inf"),
        ({"epochs": 2**31}, "epochs = 2147483648: expected at least 0, up to 2147483647"),
        ({"seed": 2**63}, "seed = 9223372036854775808: expected .* below 9223372036854775808"),
        ({"lr": True}, "lr = True: expected a number"),
        ({"epochs": True}, "epochs = True: expected a whole number"),
        ({"epochs": 10**5000}, "epochs = .*too many digits: expected at least 0, up to"),
        ({"dataset": ("digits",)}, r"dataset = \('digits',\): expected a name, one of"),
        ({"decomposition": ["afa"]}, r"decomposition = \['afa'\]: expected a name"),
        ({"compile": 1}, "compile = 1: expected true or false"),
        ({"root": b"x"}, "root = b'x': expected text"),
        ({"root": "x" * 10**6 + "\0"}, r"root = 'x{119}\.\.\.x+\\x00': expected text"),
        ({"mean": np.ones(3)}, r"mean = array\(.*: expected a list of numbers"),
        ({"lr_decay": 2}, "lr_decay = 2.0: expected above 0, at most 1"),
        ({"many_above": 10, "few_below": 12}, "few_below = 12: classes of 11 to 11 .* at most 11"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(changes, words):
    with pytest.raises(UserError, match=words):
        SCHEMA.config(changes)
    for kind in SCHEMA.classes:  # and where the class is made by itself
        if changes.keys() <= {option.name for option in options_of(kind)}:
            with pytest.raises(UserError, match=words):
                kind(**changes)


def test_numbers_of_numpy_are_numbers():
    found = SCHEMA.config({"epochs": np.int64(3), "lr": np.float32(0.5), "compile": np.bool_(True)})
    assert [type(found.flat()[name]) for name in ("epochs", "lr", "compile")] == [int, float, bool]
    assert FeaturesOptions(lr=1) == FeaturesOptions(lr=np.float64(1.0))


def test_an_option_has_no_name_of_an_argument():
    @dataclass(frozen=True)
    class Named(Options):
        """Named."""

        name: str = option("", "taken by the command")

    parser = Parser()
    parser.add_argument("--name")
    with pytest.raises(TypeError, match="option 'name' of .* has the name of an argument"):
        add_arguments(parser, Schema(Named))


def test_a_stage_has_all_that_its_interface_declares(tmp_path, monkeypatch):
    package = tmp_path / "more_stages"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "rest.py").write_text(
        "from ltvr.stages.base import Stage\n"
        "__all__ = ['Rest']\n"
        "class Rest(Stage):\n"
        "    lr_flag = '--lr'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TypeError, match="Rest has no 'title'"):
        Slot("stage", "more_stages", Stage).get("rest")


def test_two_options_of_one_name_are_refused():
    @dataclass(frozen=True)
    class Other(Options):
        """Other."""

        focal_gamma: float = option(1.0, "taken")

    with pytest.raises(TypeError, match="'focal_gamma' is declared by .*"):
        _ = Schema(*SCHEMA.sections, Other).options


def test_options_of_a_common_base_are_shared(tmp_path, monkeypatch):
    """They are declared, read and written once, and in use with either component."""
    package = tmp_path / "shared_losses"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "_both.py").write_text(
        "from dataclasses import dataclass\n"
        "from ltvr.config.options import Options, option\n"
        "@dataclass(frozen=True)\n"
        "class Both(Options):\n"
        "    'Both.'\n"
        "    shared: float = option(1.0, 'of both', at_most=9, inference=True)\n"
    )
    for name in ("one", "two"):
        (package / f"{name}.py").write_text(
            "from dataclasses import dataclass\n"
            "from shared_losses._both import Both\n"
            "from ltvr.config.options import option\n"
            "from ltvr.losses.base import Loss\n"
            "__all__ = ['It']\n"
            "@dataclass(frozen=True)\n"
            "class Own(Both):\n"
            f"    'Own of {name}.'\n"
            f"    own_{name}: int = option(0, 'its own')\n"
            "class It(Loss):\n"
            "    options_type = Own\n"
        )
    monkeypatch.syspath_prepend(tmp_path)
    slot = Slot("loss", "shared_losses", Loss)

    @dataclass(frozen=True)
    class Chosen(Options):
        """Chosen."""

        loss: str = option("one", "of every row", slot=slot, optional=True)

    schema = Schema(Chosen)
    assert list(schema.options) == ["loss", "shared", "own_one", "own_two"]
    config = schema.config({"shared": 2, "own_two": 3, "loss": "two"})
    assert vars(config.of(slot.get("two").options_type)) == {"shared": 2.0, "own_two": 3}
    assert [len(vars(config.of(kind))) for kind in config.in_use] == [1, 1, 2]
    assert config.replaced(loss="none").in_use == [Chosen]
    save_config(config, tmp_path / "config.yaml")
    written = (tmp_path / "config.yaml").read_text()
    assert written == "# Chosen\nloss: two\n\n# Both\nshared: 2.0\n\n# Own of two\nown_two: 3\n"
    for refuse in (
        lambda: slot.get("one").options_type(shared=10),
        lambda: schema.config({"shared": 10}),
    ):
        with pytest.raises(UserError, match="shared = 10.0: expected at most 9"):
            refuse()

    parser = Parser()
    add_arguments(parser, schema, inference=True)
    namespace = parser.parse_args(["--shared", "4"])
    namespace.loss = "an argument of the command's own"
    assert given(namespace, schema, inference=True) == {"shared": 4.0}
    assert "as the run" in parser.format_help() and "--own-one" not in parser.format_help()


def test_a_file_is_a_component(tmp_path, monkeypatch):
    """A loss of one's own is one file in the folder, and every option of it follows."""
    package = tmp_path / "more_losses"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "hinge.py").write_text(
        "from dataclasses import dataclass\n"
        "from ltvr.config.options import Options, option\n"
        "from ltvr.losses.base import Loss\n"
        "__all__ = ['Hinge', 'HingeOptions']\n"
        "@dataclass(frozen=True)\n"
        "class HingeOptions(Options):\n"
        "    margin: float = option(1.0, 'of the true class', at_least=0)\n"
        "class Hinge(Loss):\n"
        "    options_type = HingeOptions\n"
    )
    (package / "nothing.py").write_text("__all__ = []\n")
    monkeypatch.syspath_prepend(tmp_path)
    slot = Slot("loss", "more_losses", Loss)

    @dataclass(frozen=True)
    class Chosen(Options):
        """Chosen."""

        loss: str = option("hinge", "of every row", slot=slot)

    assert slot.names() == ("hinge", "nothing") and slot.get("hinge").__name__ == "Hinge"
    with pytest.raises(TypeError, match="expected one Loss in __all__"):
        slot.get("nothing")
    with pytest.raises(UserError, match="loss = 'gone': expected one of hinge, nothing"):
        slot.get("gone")
    (package / "nothing.py").unlink()
    schema = Schema(Chosen)
    assert schema.config({"margin": 2}).of(slot.get("hinge").options_type).margin == 2.0
    with pytest.raises(UserError, match="margin = -1.0: expected at least 0"):
        schema.config({"margin": -1})


def test_every_component_says_what_it_is():
    for kind in (LOSSES.get(name) for name in LOSSES.names()):
        assert kind.__doc__


def test_reading_yaml_imports_no_library_of_images():
    code = (
        "import sys; from ltvr.settings import load_config; load_config('digits'); "
        "sys.exit(any(m in sys.modules for m in ('torchvision', 'PIL')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize("other", methods())
def test_another_method_over_a_recorded_run_is_that_method(other, tmp_path):
    save_config(load_config("cifar10-ir100-cpu", other), tmp_path / "config.yaml")
    path = str(tmp_path / "config.yaml")
    for method in ("baseline", "ltvr", other):  # what is kept of the run's own would show in one
        expected = load_config("cifar10-ir100-cpu", method).flat()
        assert load_config(path, method).flat() == expected


def test_a_file_of_ones_own_is_not_taken_for_one_of_the_packages(tmp_path):
    """Whose stem it has; by a relative or an absolute path, with an ending or without."""
    for name in ("digits.yaml", "digits"):
        (tmp_path / name).write_text("dataset: digits\nloss: ldam\nmixup_alpha: 0.3\n")
        config = load_config(str(tmp_path / name), "mixup")
        assert config.of(RunOptions).preset == "digits.yaml"
    assert load_config("digits", "mixup").of(RunOptions).preset == "digits"
    preset = tmp_path / "cifar10-ir100-cpu.yaml"  # the package's has a gamma of its own
    preset.write_text("dataset: digits\n")
    run = load_config(str(preset), "ltvr-no-generation")
    default = GenerationOptions().gamma
    assert SCHEMA.config(with_method(run.flat(), "ltvr")).of(GenerationOptions).gamma == default

    (tmp_path / "mixup.yaml").write_text("momentum: 0.5\n")
    run = load_config("digits", str(tmp_path / "mixup.yaml"))
    assert run.of(RunOptions).method == "mixup.yaml"
    with pytest.raises(UserError, match="'mixup.yaml', is none of the package's"):
        with_method(run.flat(), "baseline")


def test_a_preset_names_no_preset_and_a_method_no_method(tmp_path):
    (tmp_path / "mine.yaml").write_text("preset: digits\nepochs: 3\n")
    with pytest.raises(UserError, match="names a preset itself"):
        load_config(str(tmp_path / "mine.yaml"))
    (tmp_path / "mine.yaml").write_text("method: focal\n")
    with pytest.raises(UserError, match="has the line 'method'"):
        load_config("digits", str(tmp_path / "mine.yaml"))
    with pytest.raises(UserError, match="expected one of"):
        load_config("x" * 300)
