"""The gradients of the generated rows, summed for the sample that gave them a feature.

The plan's inverse index lists the rows of each sample in ascending order: every gradient has one
writer, and sums have a fixed order. The plan of a long-tailed batch takes most class features from
few samples of rare classes, up to all G rows from one. So the rows of a sample are first summed in
segments of SEGMENT rows of the index, by a program each, where all of a segment is of one sample.
"""

# mypy: allow-untyped-defs, allow-incomplete-defs

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ltvr.kernels.blocks import pointers, store_block
from ltvr.kernels.launch import Launch, divide_up, kept
from ltvr.kernels.rows import row_blocks

__all__ = ["SEGMENT", "UNROLL", "class_segments", "gather"]

# How many gathered rows are on their way from memory at a time.
UNROLL = tl.constexpr(4)
SEGMENT = tl.constexpr(16)
# How many offsets a program reads at once to find the sample of its segment.
SAMPLES = 1024
# With four the compiler spills on sm_120.
WARPS = 8


@triton.jit
def _add_rows(acc, ptrs, inside, rows_ptr, first, last, size: tl.constexpr):
    """Add rows ``rows_ptr[first:last]`` of ``size`` elements to ``acc``."""
    for start in range(first, last, UNROLL):
        for step in tl.static_range(UNROLL):
            taken = start + step < last
            g = tl.load(rows_ptr + start + step, mask=taken, other=0)
            acc += tl.load(ptrs + g * size, mask=inside & taken, other=0.0).to(tl.float32)
    return acc


@triton.jit
def _segment_kernel(
    d_generated_ptr,
    offsets_ptr,
    rows_ptr,
    segments_ptr,
    batch,
    FEATURES_LAST: tl.constexpr,
    D: tl.constexpr,
    N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    BLOCK_N: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """Sum of SEGMENT gathered rows, if all of them are of one sample; else nothing."""
    first = tl.program_id(0) * SEGMENT
    # The first row belongs to the last sample whose rows begin there or before.
    begun = 0
    for start in range(0, batch, SAMPLES):
        samples = start + tl.arange(0, SAMPLES)
        begins = tl.load(offsets_ptr + samples, mask=samples < batch, other=0)
        begun += tl.sum(((begins <= first) & (samples < batch)).to(tl.int32), 0)
    if tl.load(offsets_ptr + begun) >= first + SEGMENT:
        rows = tl.program_id(1) * BLOCK_D + tl.arange(0, BLOCK_D)
        cols = tl.arange(0, BLOCK_N)
        inside = (rows[:, None] < D) & (cols[None, :] < N)
        ptrs = pointers(d_generated_ptr, rows, cols, D, N, FEATURES_LAST)
        acc = tl.zeros([BLOCK_D, BLOCK_N], tl.float32)
        acc = _add_rows(acc, ptrs, inside, rows_ptr, first, first + SEGMENT, D * N)
        segment = tl.program_id(0).to(tl.int64)
        store_block(segments_ptr + segment * D * N, rows, cols, acc, D, N)


@triton.jit
def gather(
    d_features_ptr, segments_ptr, offsets_ptr, rows_ptr, batch, sample, rows, cols,
    ADD_REAL_ROW: tl.constexpr, FEATURES_LAST: tl.constexpr, D: tl.constexpr, N: tl.constexpr,
):  # fmt: skip
    """Sum of the gradients of the generated rows that took this sample's feature.

    With ADD_REAL_ROW, plus the gradient of its real row: attention addition puts X_class there too.
    """
    inside = (rows[:, None] < D) & (cols[None, :] < N)
    ptrs = pointers(d_features_ptr, rows, cols, D, N, FEATURES_LAST)
    generated_ptrs = ptrs + tl.cast(batch, tl.int64) * D * N
    first = tl.load(offsets_ptr + sample)
    last = tl.load(offsets_ptr + sample + 1)
    acc = tl.zeros([rows.shape[0], cols.shape[0]], tl.float32)
    if segments_ptr is not None:
        # First the rows before the first whole segment, then the whole segments; the rows after
        # the last one follow below.
        head = (first + SEGMENT - 1) // SEGMENT
        end = tl.minimum(head * SEGMENT, last)
        acc = _add_rows(acc, generated_ptrs, inside, rows_ptr, first, end, D * N)
        segment_ptrs = pointers(segments_ptr, rows, cols, D, N, False)
        for start in range(head, last // SEGMENT, UNROLL):
            for step in tl.static_range(UNROLL):
                taken = start + step < last // SEGMENT
                at = segment_ptrs + (start + step) * D * N
                acc += tl.load(at, mask=inside & taken, other=0.0)
        first = tl.maximum(end, last // SEGMENT * SEGMENT)
    acc = _add_rows(acc, generated_ptrs, inside, rows_ptr, first, last, D * N)
    if ADD_REAL_ROW:
        acc += tl.load(ptrs + sample * D * N, mask=inside, other=0.0)
    return acc


@kept
def _segments(d_real: Tensor, features_last: bool) -> Launch:
    blocks = {**row_blocks(d_real), "num_warps": WARPS}
    batch, channels, positions = d_real.shape
    return Launch(
        _segment_kernel,
        batch=batch,
        FEATURES_LAST=features_last,
        D=channels,
        N=positions,
        SAMPLES=SAMPLES,
        **blocks,
    )


def class_segments(
    d_features: Tensor, class_offsets: Tensor, class_rows: Tensor, features_last: bool
) -> Tensor | None:
    """Sums [G // SEGMENT, D, N] of the segments that are of one sample, the others not written.

    None if there are fewer rows than one segment.
    """
    rows, batch = class_rows.shape[0], class_offsets.shape[0] - 1
    segments = rows // SEGMENT.value
    if segments == 0:
        return None
    d_real, d_generated = d_features[:batch], d_features[batch:]
    _, channels, positions = d_features.shape
    sums = d_features.new_empty(segments, channels, positions, dtype=torch.float32)
    launch = _segments(d_real, features_last)
    launch(
        (segments, divide_up(channels, launch.constants["BLOCK_D"])),
        d_generated_ptr=d_generated,
        offsets_ptr=class_offsets,
        rows_ptr=class_rows,
        segments_ptr=sums,
    )
    return sums
