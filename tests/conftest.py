"""Without a GPU the Triton kernels run under Triton's interpreter, which an import fixes."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
