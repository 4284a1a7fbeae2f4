"""What several tests need: the real commands, in this process, and a run that takes a second."""

import sys

import numpy as np
import pytest
from PIL import Image

from ltvr import errors


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
