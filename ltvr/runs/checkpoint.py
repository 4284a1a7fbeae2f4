"""Checkpoints: everything a run needs to go on to the bit, loadable with ``weights_only``.

The file is the zip archive of ``torch.save``. The comment at its end, which zip readers pass over,
holds the sha256 of all before it, so that no damage goes unnoticed.
"""

from __future__ import annotations

import errno
import hashlib
import os
import pickle
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor, nn

from ltvr.errors import UserError
from ltvr.runs import legacy
from ltvr.runs.files import replacing
from ltvr.runs.forms import Form, check

__all__ = [
    "BEST",
    "FORMAT",
    "TRAINING",
    "Damaged",
    "Foreign",
    "load_checkpoint",
    "load_weights",
    "save_checkpoint",
]

FORMAT = 3
"""Of the checkpoints that are written; 1 had no number, and is read by ``ltvr.runs.legacy``; 2 also
held the states of generators of random numbers."""

WEIGHTS: Form = {"model": {str: Tensor}, "stage": str}
"""What every checkpoint holds."""

TRAINING: Form = {
    **WEIGHTS,
    "loss": {str: Tensor},
    "optimizer": ({"state": dict, "param_groups": [dict]}, None),
    "scaler": dict,
    "average": ({str: Tensor}, None),
    "epoch": int,
    "step": int,
    "best": float,
    "totals": {"sums": Tensor, "synthetic_counts": Tensor},
    "results": {str: dict},
}
"""What one holds that a run goes on from."""

BEST: Form = {**WEIGHTS, "best": float, "epoch": int}
"""What that of the best epoch of a stage holds, among others."""

LABEL = b"sha256:"
COMMENT = len(LABEL) + 64
"""Bytes of the comment: the label, and the digest in hexadecimal."""


class Damaged(UserError):
    """A file that is not what was written."""


class Foreign(UserError):
    """A checkpoint of another run or network than it is to be used for."""


def save_checkpoint(path: Path, state: dict[str, Any], former: Path | None = None) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) so that a crash leaves the old.

    Args:
        former: the name under which the checkpoint of before is kept; None does not keep it.

    Raises:
        CannotWrite: a disk that is full, read-only or broken.
    """
    with replacing(path, former) as partial, partial.open("wb+") as file:
        writer = _Writer(file)
        torch.save({"format": FORMAT, **state}, cast(IO[bytes], writer))
        if writer.error is not None:
            raise writer.error
        file.seek(-2, os.SEEK_END)  # the archive ends with the length of its comment, 0
        file.write(COMMENT.to_bytes(2, "little") + LABEL + writer.digest.hexdigest().encode())


class _Writer:
    """What ``torch.save`` writes to. It is not told of a failure: it would raise its internals."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.digest = file, hashlib.sha256()
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is None:
            try:
                self.file.write(data)
            except OSError as error:
                self.error = error
        self.digest.update(data)
        return len(data)

    def flush(self) -> None:
        """Nothing: the file is flushed once, when it is whole."""


def load_checkpoint(path: Path, form: Form = WEIGHTS) -> dict[str, Any]:
    """Read a checkpoint on the CPU.

    Args:
        form: what it must hold.

    Raises:
        Damaged: a file that is no checkpoint, or not as it was written.
        UserError: a missing file, one that the machine does not read, one of a newer ltvr, or one
            without a field that is needed.
    """
    if not path.is_file():
        raise UserError(f"checkpoint {path} is missing; name a run folder or a .pt file")
    try:
        with path.open("rb") as file:
            _check_digest(file, path)
            file.seek(0)
            state: Any = torch.load(file, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except (OSError, MemoryError) as error:
        # PyTorch looks before the start of a file that ends too early; all else is the machine's.
        if isinstance(error, OSError) and error.errno == errno.EINVAL:
            raise Damaged(f"{path} is not a checkpoint of ltvr (it ends too early)") from None
        raise UserError(f"{path} cannot be read ({error!r}); try again") from None
    except pickle.UnpicklingError:
        raise Damaged(f"{path} is not a checkpoint of ltvr (it holds other things)") from None
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Damaged(f"{path} is not a checkpoint of ltvr ({first})") from None
    if not isinstance(state, dict) or "model" not in state:
        raise Damaged(f"{path} is not a checkpoint of ltvr (it has no model)")
    number = state.get("format", 1)
    if number == 1:
        state = legacy.checkpoint(state, path)
    elif number not in (2, FORMAT):
        raise UserError(f"{path} has format {number}; this ltvr reads up to {FORMAT}: update it")
    check(state, form, path)
    return cast(dict[str, Any], state)


def _check_digest(file: IO[bytes], path: Path) -> None:
    """Compare a file with the digest in its comment; one without a digest passes.

    Files of older versions, and of other programs, have none.

    Raises:
        Damaged: another digest.
    """
    length = max(2, file.seek(0, os.SEEK_END) - COMMENT)
    file.seek(length)
    comment = file.read()
    if not comment.startswith(LABEL):
        return
    digest, left = hashlib.sha256(), length - 2
    file.seek(0)
    while left:
        part = file.read(min(left, 1 << 20))
        digest.update(part)
        left -= len(part)
    if file.read(2) == COMMENT.to_bytes(2, "little"):
        digest.update(b"\0\0")  # the length of the comment before there was one
    if comment != LABEL + digest.hexdigest().encode():
        raise Damaged(f"{path} is damaged: it is not what was written (sha256)")


def load_weights(model: nn.Module, weights: dict[str, Any], source: Path) -> None:
    """Load ``weights`` into ``model``, all of them.

    Raises:
        Foreign: weights of another architecture; names the first part that differs.
    """
    own = model.state_dict()
    for name in [*own, *weights]:
        here = tuple(own[name].shape) if name in own else "absent"
        there = tuple(weights[name].shape) if name in weights else "absent"
        if here != there:
            raise Foreign(
                f"{source} is of another architecture: {name} is {there} there and {here} here; "
                "use its run's config.yaml"
            )
    model.load_state_dict(weights)
