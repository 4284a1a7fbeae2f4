"""What a resumed run is compared with; ``tests/commands/test_resume.py`` has whole runs."""

import pytest
import torch

from ltvr.engine.resumption import differences
from ltvr.runs.environment import environment


@pytest.mark.parametrize("name", ["torch", "fp32_precision", "triton", "triton_autotune"])
def test_what_decides_the_bits_of_a_gpu_is_compared(name):
    here = {**environment(torch.device("cpu")), "device": "cuda: NVIDIA H100"}
    assert differences(here, here) == []
    assert differences({**here, name: "other"}, here) == [f"{name} other (now {here[name]})"]
    older = {k: v for k, v in here.items() if k != name}
    assert differences(older, here) == []


def test_what_triton_is_does_not_matter_to_a_cpu():
    here = environment(torch.device("cpu"))
    assert differences({**here, "triton": "3.6.0", "numpy": "2.0"}, here) == []


@pytest.fixture
def bf16_convolutions():
    torch.backends.mkldnn.conv.fp32_precision = "bf16"
    yield
    torch.backends.mkldnn.conv.fp32_precision = "none"


def test_the_precision_of_the_device_is_recorded(bf16_convolutions):
    assert environment(torch.device("cpu"))["fp32_precision"] == "none, convolutions bf16"
    assert environment(torch.device("cpu"))["triton_autotune"] is False
