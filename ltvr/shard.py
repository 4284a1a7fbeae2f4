"""``python -m ltvr.shard FOLDER``: write a data set as shards, a few large files of LitData."""

from __future__ import annotations

from pathlib import Path

from ltvr import errors
from ltvr.config.command_line import Parser, flag
from ltvr.config.options import options_of
from ltvr.data.built_in import BUILT_IN
from ltvr.data.datasets import load_data
from ltvr.data.options import DataOptions
from ltvr.data.readable import IN_MEMORY_PIXELS
from ltvr.data.shards import require_litdata, write_shards
from ltvr.errors import shown
from ltvr.saying import say_notes
from ltvr.settings import SCHEMA

__all__ = ["main"]

TAKEN = ("dataset", "root", "lists", "bad_images")
"""Options that say which images; what is done to them is for the run to say."""


def parser() -> Parser:
    """Build the command line."""
    p = Parser(
        prog="python -m ltvr.shard",
        description="Write all images of a data set as shards, byte for byte. A run reads them "
        "with --dataset shards --root FOLDER, and is the same to the bit.",
    )
    p.add_argument("folder", type=Path, metavar="FOLDER", help="of the shards; missing or empty")
    for option in options_of(DataOptions):
        if option.name in TAKEN:
            choices = [c for c in option.choices if c != "shards"] if option.choices else None
            text = f"{option.text} ({option.default or 'none'})"
            p.add_argument(flag(option.name), default=option.default, choices=choices, help=text)
    return p


def main() -> None:
    """Run the command line."""
    arguments = parser().parse_args()
    require_litdata()  # before all images are read
    config = SCHEMA.config({name: getattr(arguments, name) for name in TAKEN})
    options = config.of(DataOptions)
    if options.dataset not in BUILT_IN:  # so that the loader keeps the files, and no pixels
        config = config.replaced(image_size=IN_MEMORY_PIXELS + 1)
    data = load_data(config)
    say_notes(data.notes)
    written = write_shards(data, arguments.folder, options.root)
    numbers = ", ".join(f"{number} {name}" for name, number in written.items())
    print(shown(f"{numbers} images in {arguments.folder}; train with --dataset shards --root"))


if __name__ == "__main__":
    errors.run(main)
