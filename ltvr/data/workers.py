"""Images read from disk by worker processes, batch after batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ltvr.errors import UserError

__all__ = ["read_in_workers"]


def read_in_workers(
    images: Dataset[Tensor], batches: Sequence[Sequence[Any]], workers: int, *, pinned: bool
) -> Iterator[Tensor]:
    """Read batches of images, in order.

    Args:
        images: gives one image for each index.
        batches: the indices of each batch.
        workers: processes that read; 0 reads in this one.
        pinned: into page-locked memory, for a copy to a GPU.

    Raises:
        UserError: an image that cannot be read.
    """
    loader: DataLoader[Any] = DataLoader(
        _Caught(images),
        batch_sampler=batches,  # type: ignore[arg-type]  # any iterable of batches will do
        num_workers=workers,
        collate_fn=_stack,
        # Of its own: a loader that took its seed from the global generator would shift what a run
        # draws from it when it is resumed.
        generator=torch.Generator(),
        pin_memory=pinned,
    )
    for batch in loader:
        # Workers hand a failed image back as text: torch would wrap it in a traceback.
        if isinstance(batch, str):
            raise UserError(batch)
        yield batch


class _Caught(Dataset[Any]):
    """Batches of a data set, in which the text of a ``UserError`` stands for a failed image."""

    def __init__(self, images: Dataset[Tensor]) -> None:
        self.images = images

    def __getitems__(self, indices: Sequence[Any]) -> list[Tensor | str]:
        try:
            return [self.images[index] for index in indices]
        except UserError as error:
            return [str(error)]


def _stack(images: list[Tensor | str]) -> Tensor | str:
    failed = [image for image in images if isinstance(image, str)]
    return failed[0] if failed else torch.stack([i for i in images if isinstance(i, Tensor)])
