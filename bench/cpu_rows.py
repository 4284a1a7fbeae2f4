"""The file of a benchmark whose rows were measured on a CPU."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from ltvr.device import choose_device
from ltvr.runs.environment import environment

__all__ = ["write_rows"]


def write_rows(path: Path, rows: Sequence[Any], command: str, of: str) -> None:
    """Write ``rows`` as JSON, with the command, what it measures, the date and the machine."""
    result = {
        "command": command,
        "date": date.today().isoformat(),
        "of": of,
        "environment": environment(choose_device("cpu")),
        "rows": rows,
    }
    path.write_text(json.dumps(result, indent=1) + "\n")
