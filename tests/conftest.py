"""What several tests need: the real commands, in this process, and a run that takes a second."""

import json
import os
import signal
import sys

os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # as the commands have it (ltvr.threads)

import torch

if not torch.cuda.is_available():  # Triton's kernels run under its interpreter, set on import
    os.environ.setdefault("TRITON_INTERPRET", "1")

import numpy as np
import pytest
from PIL import Image

import ltvr.evaluate
import ltvr.training
from ltvr import errors
from ltvr.losses.base import Divisors
from ltvr.runs.folder import Run
from ltvr.settings import SCHEMA, load_config
from ltvr.stages.base import part_of_mean


class Killed(BaseException):
    """Ends a run or a command on the spot, as SIGKILL would."""


def weighted_mean(values, weights):
    """The mean of rows of a loss, as a step of one part has it."""
    return part_of_mean(values, weights, Divisors.of(weights, len(weights)).every)


@pytest.fixture(scope="session", autouse=True)
def signals_of_a_terminal():
    """Tests send signals; nohup and a shell's background jobs have some of them ignored."""
    handlers = {signal.SIGINT: signal.default_int_handler}
    handlers |= dict.fromkeys((signal.SIGTERM, signal.SIGHUP), signal.SIG_DFL)
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """What is kept of image files between runs is not the user's in a test."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def pytest_collection_modifyitems(items):
    """Tests that fork come first: after a backward pass in this process torch may have threads of
    autograd, and refuses one in a fork then."""
    items.sort(key=lambda item: item.get_closest_marker("forks") is None)


def pytest_addoption(parser):
    group = parser.getgroup("ltvr")
    group.addoption(
        "--malformed",
        type=int,
        default=24,
        metavar="N",
        help="malformed inputs of tests/malformed (24; every kind comes within 110)",
    )
    group.addoption(
        "--malformed-seed", type=int, default=0, metavar="SEED", help="which they are (0)"
    )


@pytest.fixture
def command(monkeypatch, capsys):
    """Run a command of ltvr as the shell would: exit status, stdout, stderr."""

    def run(module, *arguments):
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            errors.run(module.main)
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def write_images():
    """Write random images of ``size`` to ``root``/``name`` for every name; returns the pixels."""

    def write(root, names, size=8, seed=0):
        random = np.random.default_rng(seed)
        pixels = random.integers(0, 256, (len(names), size, size, 3), np.uint8)
        for name, image in zip(names, pixels, strict=True):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(root / name)
        return pixels

    return write


@pytest.fixture
def folder(tmp_path, write_images):
    """A good folder data set, for a test to spoil."""
    for split in ("train", "test"):
        write_images(tmp_path / split, ["cat/1.png", "cat/2.png", "dog/1.png"])
    return tmp_path


def config_of(**values):
    """A configuration of these options, defaults for the rest."""
    return SCHEMA.config(values)


def tiny_config(**changes):
    """Settings of a run of 6 steps an epoch: one epoch of real images, one of both, one of cRT."""
    tiny = {"imbalance": 30.0, "stem": "stride2", "batch_size": 64, "epochs": 2, "crt_epochs": 1}
    method = changes.pop("method", None)
    tiny |= {"lay_back_start": 0.5, "device": "cpu", "batchnorm_images": 0, **changes}
    return load_config("digits", method, tiny)


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a finished tiny run; read it, do not write to it."""
    folder = tmp_path_factory.mktemp("runs") / "finished"
    ltvr.training.train(tiny_config(), folder)
    return folder


@pytest.fixture
def no_report(monkeypatch):
    """Runs that make no page at their end, which takes a second."""
    monkeypatch.setattr(ltvr.training, "write_report", lambda *_: None)


def summary(folder):
    """What a finished run says of itself."""
    return json.loads((folder / "summary.json").read_text())


def records(folder):
    """The records of the epochs, without what a clock says."""
    clock = ("seconds", "eval_seconds", "images_per_second")
    return [{k: v for k, v in r.items() if k not in clock} for r in Run(folder).records()]


def assert_evaluate_agrees(folder, command, tmp_path):
    """Check that the command gives the metrics of the run's own summary."""
    code, out, err = command(ltvr.evaluate, folder, "--json", tmp_path / "metrics.json")
    assert code == 0, err
    got, expected = (
        json.loads((tmp_path / "metrics.json").read_text()),
        summary(folder)["metrics"]["crt"],
    )
    assert got.pop("classes") == Run.open(folder).manifest()["classes"]
    assert got == {k: expected[k] for k in got} and f"{got['all']:.2f}" in out
