"""``python -m ltvr`` names every command."""

from ltvr.__main__ import commands, main


def test_every_command_says_what_it_does(capsys):
    names = [line.split("``")[1].split()[2] for line in commands()]
    assert {"ltvr.train", "ltvr.evaluate", "ltvr.predict", "ltvr.heads"} <= set(names)
    assert all(line.partition("``: ")[2] for line in commands())
    main()
    printed = capsys.readouterr().out
    assert all(f"python -m {name}" in printed for name in names)
