"""Threads wait briefly for each other in commands, unless the user says how long."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="libgomp is what torch has there")


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({}, "GOMP_SPINCOUNT = '1000'"),
        ({"GOMP_SPINCOUNT": "77"}, "GOMP_SPINCOUNT = '77'"),
        ({"OMP_WAIT_POLICY": "PASSIVE"}, "GOMP_SPINCOUNT = '0'"),
    ],
    ids=str,
)
def test_a_command_tells_libgomp_before_torch_loads_it(said, found):
    before = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    done = subprocess.run(
        [sys.executable, "-m", "ltvr.train", "--help"],
        env={**before, "OMP_DISPLAY_ENV": "verbose", **said},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert found in done.stderr
