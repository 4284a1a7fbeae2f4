"""The fused operators in Triton, imported as ``ltvr.kernels``: one file an operator.

They launch on the current device, and take their arguments as they are. ``torch.ops.ltvr`` checks
the arguments and makes the device that of the tensors (``ltvr/afa/ops.py``).
"""

from ltvr.kernels.augment import augment, augment_backward
from ltvr.kernels.channel_attention import channel_attention
from ltvr.kernels.channel_attention_backward import channel_attention_backward
from ltvr.kernels.split_and_generate import split_and_generate
from ltvr.kernels.split_and_generate_backward import split_and_generate_backward

__all__ = [
    "augment",
    "augment_backward",
    "channel_attention",
    "channel_attention_backward",
    "split_and_generate",
    "split_and_generate_backward",
]
