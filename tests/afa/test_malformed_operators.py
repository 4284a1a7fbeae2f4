"""The C++ operators under random arguments, right and wrong: what fits runs, all else is refused.

A sample of the calls runs here. ``make sanitize`` runs thousands (``LTVR_FUZZ``), under
AddressSanitizer and UBSan, where a read outside a tensor that happens to do no harm is seen too.
Every call is a function of its number: ``call(7)`` makes the seventh again.
"""

from __future__ import annotations

import math
import os
import random
from typing import Any, NamedTuple

import pytest
import torch
from operators import needs_extension
from torch import Tensor

from ltvr import plan_synthesis
from ltvr.afa import ops

CALLS = int(os.environ.get("LTVR_FUZZ", "400"))
FLOATS = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
OTHERS = (torch.int64, torch.int32, torch.bool, torch.complex64, *FLOATS)
BATCHES = (0, 1, 2, 3, 4, 5, 9, 12, 36)
CHANNELS = (1, 2, 3, 5, 7, 8, 12, 13, 15, 16, 17, 31, 33, 47, 49, 64, 65, 97, 130, 260)
POSITIONS = (1, 2, 3, 4, 7, 16, 49)


class Call(NamedTuple):
    """An operator with its arguments by name, in order, and what is wrong with them."""

    operator: str
    arguments: dict[str, Any]
    fault: str | None
    in_numbers: bool
    """Whether the fault is in the numbers of a tensor, which a fake tensor does not have."""

    def __str__(self) -> str:
        shown = {
            name: f"{a.dtype} {list(a.shape)} {list(a.stride())}" if isinstance(a, Tensor) else a
            for name, a in self.arguments.items()
            if not isinstance(a, Tensor) or a.layout == torch.strided
        }
        return f"{self.operator}({shown}), fault: {self.fault}"


def call(number: int) -> Call:
    """The call of this number: every second one with a fault in it."""
    chance = random.Random(number)
    torch.manual_seed(number)
    operator = chance.choice(("plan_synthesis", *ops.FUSED))
    if operator != "plan_synthesis" and "attention" in operator and chance.random() < 0.2:
        operator = f"_{operator}_on_bf16_units"
    dtype = torch.bfloat16 if operator.startswith("_") else chance.choice(FLOATS)
    shape = chance.choice(BATCHES), chance.choice(CHANNELS), chance.choice(POSITIONS)
    if operator == "plan_synthesis":
        arguments = _plan(chance)
    elif "attention" in operator:
        arguments = _attention(chance, shape, dtype, "backward" in operator)
    else:
        arguments = _split(chance, shape, dtype, "backward" in operator)
    for name, argument in arguments.items():
        if isinstance(argument, Tensor):
            arguments[name] = _other_layout(chance, argument)
    faults = _faults(chance, operator, arguments) if chance.random() < 0.5 else []
    if not faults:
        return Call(operator, arguments, None, False)
    name, value, in_numbers = chance.choice(faults)
    old = arguments[name]
    arguments[name] = value
    if isinstance(value, Tensor) and isinstance(old, Tensor) and value.layout == torch.strided:
        fault = f"{name} of {value.dtype} {list(value.shape)}"
    else:
        fault = name
    return Call(operator, arguments, fault, in_numbers)


def _numbers(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).to(dtype)


def _sums(dtype: torch.dtype) -> torch.dtype:
    return torch.promote_types(dtype, torch.float32)


def _plan(chance: random.Random) -> dict[str, Any]:
    size, classes = chance.choice((0, 1, 2, 7, 40, 300)), chance.choice((1, 3, 1000, 2**62))
    return {
        "labels": torch.randint(0, classes, (size,)),
        "gamma": chance.choice((0.0, 0.3, 1.0, 7.0)),
        "alpha": chance.choice((0.0, 1.0, 4.0, 1e308)),
        "seed": chance.choice((0, -1, 2**63 - 1, -(2**63))),
        "step": chance.choice((0, 1, 2**63 - 1)),
        "groups": chance.choice((1, 2, 9, 2**63 - 1)),
    }


def _attention(
    chance: random.Random, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> dict[str, Any]:
    q, k, v, d_out, out = (_numbers(*shape, dtype=dtype) for _ in range(5))
    shared = chance.random() < 0.5
    if not backward:
        return {"q": q, "k": k, "v": None if shared else v}
    lse = _numbers(*shape[:2], dtype=_sums(dtype))
    return {"d_out": d_out, "q": q, "k": k, "v": None if shared else v, "out": out, "lse": lse}


def _split(
    chance: random.Random, shape: tuple[int, ...], dtype: torch.dtype, backward: bool
) -> dict[str, Any]:
    x, x_att, v = (_numbers(*shape, dtype=dtype) for _ in range(3))
    s = _numbers(*shape[:2], dtype=_sums(dtype))
    labels = torch.randint(0, 3, shape[:1])
    plan = plan_synthesis(labels, gamma=chance.choice((0.0, 1.0, 2.5)), seed=0, step=0)
    options = {
        "spatial": chance.random() < 0.5,
        "gain": chance.choice((0.0, 1.0, 2.5)),
        "addition": chance.random() < 0.5,
    }
    parts = {"x_att": x_att, "s": s, "v": v}
    if backward:
        rows = shape[0] + plan.generated
        d_features = _numbers(rows, *shape[1:], dtype=dtype)
        names = ("class_offsets", "class_rows", "variation_offsets", "variation_rows")
        inverse = {name: getattr(plan, name) for name in names}
        return {"d_features": d_features, **parts, **inverse, **options}
    index = {"class_index": plan.class_index, "variation_index": plan.variation_index}
    residual = chance.random() < 0.5 or not options["addition"]
    return {"x": x if residual else None, **parts, **index, **options}


def _other_layout(chance: random.Random, tensor: Tensor) -> Tensor:
    """The same numbers in other strides, or numbers that share memory."""
    kind = chance.randrange(6)
    if kind == 0 and tensor.dim() > 1:
        return tensor.transpose(-1, -2).contiguous().transpose(-1, -2)
    if kind == 1:
        return tensor.repeat_interleave(2, dim=-1)[..., ::2]
    if kind == 2:
        return torch.cat([tensor, tensor])[tensor.shape[0] :]
    if kind == 3 and tensor.is_floating_point() and tensor.numel():
        return tensor[:1, ..., :1].expand(tensor.shape)
    return tensor


def _faults(
    chance: random.Random, operator: str, arguments: dict[str, Any]
) -> list[tuple[str, Any, bool]]:
    """Arguments that the operator must refuse: name, value, whether it is wrong in its numbers."""
    faults: list[tuple[str, Any, bool]] = []
    first = next(name for name in ("q", "v", "labels") if name in arguments)
    batch = len(arguments[first])
    for name, argument in arguments.items():
        if not isinstance(argument, Tensor):
            continue
        dtypes = [dtype for dtype in OTHERS if dtype != argument.dtype]
        faults += [
            (name, argument.to(chance.choice(dtypes)), False),
            (name, argument.unsqueeze(chance.randrange(argument.dim() + 1)), False),
            (name, argument.sum(), False),
        ]
        if name == "labels":
            continue
        for axis, size in enumerate(argument.shape):
            grown = (
                torch.cat([argument, argument[:1] if size else argument.new_zeros(1)])
                if (argument.dim() == 1)
                else argument.repeat_interleave(2, dim=axis)
            )
            # The lengths of class_index and class_rows are what tells the number of rows, and with
            # no class_rows to hold it to, a plan may be of no rows.
            if size and grown.shape != argument.shape:
                faults += [(name, grown, False), (name, argument.narrow(axis, 0, size - 1), False)]
    for name in ("class_index", "variation_index", "class_rows", "variation_rows"):
        if name in arguments and len(arguments[name]):
            index = arguments[name].clone()
            end = batch if name.endswith("index") else len(index)
            bad = chance.choice((-1, end, end + 1, 2**31, 2**40, 2**62, -(2**63), 2**63 - 1))
            index[chance.randrange(len(index))] = bad
            faults += [(name, index, True)] * 6
    for name in ("class_offsets", "variation_offsets"):
        if name in arguments:
            offsets = arguments[name].clone()
            place = chance.randrange(len(offsets))
            wrong = (-1, int(offsets[-1]) + 1, 2**40, -(2**63), 2**63 - 1)
            offsets[place] = chance.choice(wrong)
            faults += [(name, offsets, True)] * 6
    if "gain" in arguments:
        faults += [("gain", gain, False) for gain in (math.nan, math.inf, -1.0, 1e300)]
    if arguments.get("x") is not None and not arguments["addition"]:
        faults += [("x", None, False)] * 6
    if operator == "plan_synthesis":
        faults += [("gamma", gamma, True) for gamma in (math.nan, math.inf, -1.0)]
        faults += [("alpha", alpha, True) for alpha in (math.nan, math.inf, -1.0)]
        faults += [("step", -1, True), ("groups", 0, True)]
        if batch:
            faults += [("gamma", gamma, True) for gamma in (1e300, 2.0**25)]
            labels = arguments["labels"].clone()
            labels[chance.randrange(batch)] = chance.choice((-1, -100, -(2**63)))
            faults += [("labels", labels, True)] * 3
    return faults


def run(call: Call, device: str = "cpu") -> Any:
    arguments = (a.to(device) if isinstance(a, Tensor) else a for a in call.arguments.values())
    return getattr(torch.ops.ltvr, call.operator)(*arguments)


def tensors(result: Any) -> tuple[Tensor, ...]:
    return (result,) if isinstance(result, Tensor) else tuple(result)


@needs_extension
def test_operators_run_what_fits_and_refuse_the_rest():
    refused = 0
    for number in range(CALLS):
        made = call(number)
        on_meta = made.operator in ops.FUSED and not made.in_numbers
        if made.fault is None:
            results = tensors(run(made))
            if on_meta:
                for found, fake in zip(results, tensors(run(made, "meta")), strict=True):
                    assert found.shape == fake.shape and found.dtype == fake.dtype, made
            if "attention" not in made.operator or "backward" not in made.operator:
                assert all(found.isfinite().all() for found in results), made
            continue
        refused += 1
        for device in ("cpu", "meta") if on_meta else ("cpu",):
            with pytest.raises((ValueError, TypeError)) as error:
                run(made, device)
                pytest.fail(f"call({number}) was not refused on {device}: {made}")
            assert str(error.value).count("\n") == 0, made
    assert CALLS // 3 < refused < CALLS


@needs_extension
@pytest.mark.parametrize("shape", [(2, 0, 4), (2, 3, 0), (0, 0, 4), (2, 0, 0)])
def test_no_channels_or_no_positions_are_refused_by_name(shape):
    x, s = torch.zeros(shape), torch.zeros(shape[:2])
    index, offsets = torch.zeros(0, dtype=torch.int64), torch.zeros(shape[0] + 1, dtype=torch.int64)
    calls = (
        ("channel_attention", x, x, None),
        ("channel_attention_backward", x, x, x, x, x, s),
        ("split_and_generate", x, x, s, x, index, index, True, 1.0, True),
        ("split_and_generate_backward", x, x, s, x, *(2 * (offsets, index)), True, 1.0, True),
    )
    for name, *arguments in calls:
        with pytest.raises(ValueError, match=r"B, D, N"):
            getattr(torch.ops.ltvr, name)(*arguments)
