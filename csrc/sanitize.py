"""Fuzz the C++ operators under AddressSanitizer and UBSan: ``make sanitize``.

Builds the package with the sanitizers into ``build/sanitize``, away from the normal build, and runs
the tests of malformed arguments on it, once for each instruction set that this CPU has. A report of
a sanitizer ends the run with its text and a status other than 0.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "sanitize"
PACKAGES = BUILD / "lib"
TESTS = ("test_malformed_operators.py", "test_malformed_arguments.py")
CALLS = 3000


def build() -> None:
    command = [sys.executable, "setup.py", "--quiet", "build"]
    command += ["--build-base", str(BUILD), "--build-lib", str(PACKAGES)]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"LTVR_SANITIZE": "1"}, check=True)


def instruction_sets() -> list[str]:
    """Those that were built and that this CPU has, the least first."""
    best = torch.backends.cpu.get_cpu_capability().lower()
    known = ["default", "avx2", "avx512"]
    have = known[: known.index(best) + 1] if best in known else ["default"]
    built = [name for name in have if any(PACKAGES.glob(f"ltvr/_C_{name}.*"))]
    if built != have:
        sys.exit(f"built with sanitizers: {built}, expected {have}; see what the compiler says")
    return have


def preloaded() -> str:
    """Libraries that must come before all others in a Python that was built without them."""
    compiler = os.environ.get("CXX", "c++")
    paths = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libstdc++.so")
    ]
    return ":".join(paths)


def main() -> None:
    argparse.ArgumentParser(description=__doc__.partition(": ``")[0]).parse_args()
    build()
    sanitizers = {
        "LD_PRELOAD": preloaded(),
        # Python does not free all of its memory when it ends.
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "LTVR_FUZZ": str(CALLS),
    }
    tests = [str(ROOT / "tests" / "afa" / name) for name in TESTS]
    for name in instruction_sets():
        print(f"{name}:", flush=True)
        command = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider"]
        command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT), *tests]
        # From the folder of the build, so that `import ltvr` finds that one.
        environment = os.environ | sanitizers | {"ATEN_CPU_CAPABILITY": name}
        subprocess.run(command, cwd=PACKAGES, env=environment, check=True)


if __name__ == "__main__":
    main()
