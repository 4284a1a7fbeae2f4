"""Images as a person sees them again."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ltvr.config.config import Config
from ltvr.data.options import DataOptions

__all__ = ["shown_pixels"]


def shown_pixels(images: Tensor, config: Config) -> npt.NDArray[np.float32]:
    """Normalised images [B, 3, S, S] as what ``imshow`` takes: [B, S, S, 3], 0 to 1."""
    options = config.of(DataOptions)
    mean = torch.tensor(options.mean).view(3, 1, 1)
    std = torch.tensor(options.std).view(3, 1, 1)
    pixels = images.float().cpu().contiguous() * std + mean
    found: npt.NDArray[np.float32] = pixels.clamp(0, 1).permute(0, 2, 3, 1).numpy()
    return found
