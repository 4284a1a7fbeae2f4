"""``python -m ltvr`` names every command."""

import ltvr.__main__
from ltvr.__main__ import commands


def test_every_command_says_what_it_does(command):
    names = [line.split("``")[1].split()[2] for line in commands()]
    assert {"ltvr.train", "ltvr.evaluate", "ltvr.predict", "ltvr.heads"} <= set(names)
    assert all(line.partition("``: ")[2] for line in commands())
    code, out, _ = command(ltvr.__main__)
    assert code == 0 and all(f"python -m {name}" in out for name in names)


def test_a_command_is_no_argument(command):
    code, _, err = command(ltvr.__main__, "train", "--dry-run")
    assert code == 2 and "'train': expected no argument" in err
