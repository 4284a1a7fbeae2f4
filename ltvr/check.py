"""``python -m ltvr.check DATA``: what is in a data set, and what a run would stop at."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path

from ltvr import errors
from ltvr.config.command_line import Parser, refuse_unused
from ltvr.data.audit import audit
from ltvr.data.layouts import LISTS
from ltvr.data.options import DataOptions
from ltvr.data.readable import IN_MEMORY_PIXELS
from ltvr.errors import shown
from ltvr.reports.audit import as_json, lines
from ltvr.runs.output import output
from ltvr.settings import SCHEMA

__all__ = ["main"]


def parser() -> Parser:
    """Build the command line."""
    p = Parser(
        prog="python -m ltvr.check",
        description="Read every image of a data set once, before a run, and say what is there and "
        "what a run would stop at. Exit status 1 if there is such a thing.",
    )
    p.add_argument(
        "data",
        metavar="DATA",
        help="folder of train/<class>/<image>, test/ and maybe val/; or of <class>/<image> alone; "
        "with lists, the folder that their paths are below",
    )
    p.add_argument(
        "--dataset",
        choices=("folder", *LISTS),
        default="folder",
        help="a folder, or lists (folder)",
    )
    p.add_argument("--lists", default="", metavar="FOLDER", help="where the lists are (DATA)")
    p.add_argument(
        "--bad-images",
        choices=("error", "skip"),
        default="error",
        help="what the run is to do with images that cannot be read (error)",
    )
    p.add_argument(
        "--holdout",
        type=float,
        default=0.0,
        metavar="X",
        help="as of ltvr.train: the run is judged on a hold-out, and the test set need not be (0)",
    )
    p.add_argument("--holdout-from", choices=("train", "val"), help="as of ltvr.train (train)")
    p.add_argument("--json", type=Path, metavar="FILE", help="write all that was found here too")
    p.add_argument("--verbose", action="store_true", help="name all that is counted")
    return p


def main() -> int:
    """Run the command line."""
    arguments = parser().parse_args()
    source = {} if arguments.holdout_from is None else {"holdout_from": arguments.holdout_from}
    if arguments.lists:
        source["lists"] = arguments.lists
    config = SCHEMA.config(
        {
            "dataset": arguments.dataset,
            "root": arguments.data,
            "bad_images": arguments.bad_images,
            "holdout": arguments.holdout,
            "image_size": IN_MEMORY_PIXELS + 1,  # the loader need not keep pixels
            **source,
        }
    )
    refuse_unused(config, source)
    options = config.of(DataOptions)
    with ExitStack() as stack:
        file = None
        if arguments.json is not None:
            file = stack.enter_context(output(arguments.json, "--json"))
        found = audit(config)
        if file is not None:
            file.write(json.dumps(as_json(found, options), indent=1) + "\n")
    for line in lines(found, options, verbose=arguments.verbose):
        print(shown(line))
    number = len(found.problems)
    problems = "1 problem" if number == 1 else f"{number} problems"
    print(f"a run would stop at {problems}" if number else "a run can start")
    return 1 if number else 0


if __name__ == "__main__":
    errors.run(main)
