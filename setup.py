"""Build of ltvr: the package, the folder kernels/ as ltvr.kernels, and the C++ extension.

Metadata is in pyproject.toml. The extension is built once for each instruction set, and the machine
that runs it picks one (ltvr/afa/ops.py). It is optional: where it does not compile, the install
succeeds with a warning, and ltvr says what is missing when an operator needs it.
"""

import os
import platform
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

# Of at::vec's headers under g++, not of ours.
QUIET = ["-Wno-unknown-pragmas", "-Wno-psabi"]
OPENMP = ["-fopenmp"] if sys.platform.startswith("linux") else []
# `make sanitize` builds with these: a report names its line and ends the process. Not optimised, as
# the compiler takes half an hour over the instrumented tiles of AVX-512 otherwise.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
SANITIZED = os.environ.get("LTVR_SANITIZE") == "1"
OPTIMISATION = (
    ["-O0", "-g1", "-fno-omit-frame-pointer", *SANITIZERS] if SANITIZED else ["-O3", "-g0"]
)
# The flags that PyTorch compiles its own kernels with. No -march=native: a wheel runs on any
# machine.
INSTRUCTION_SETS = {"DEFAULT": []}
if platform.machine().lower() in ("x86_64", "amd64"):
    INSTRUCTION_SETS["AVX2"] = ["-mavx2", "-mfma", "-mf16c"]
    INSTRUCTION_SETS["AVX512"] = [
        *INSTRUCTION_SETS["AVX2"],
        *("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"),
    ]


class OptionalBuildExtension(BuildExtension):
    """Compile with ninja; without a working compiler, or a flag it lacks, warn and go on."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except Exception as error:
            warn("its C++ extension", error)

    def build_extension(self, extension: Extension) -> None:
        build_temp = self.build_temp
        self.build_temp = str(Path(build_temp, extension.name))  # the same sources, other objects
        try:
            super().build_extension(extension)
        except Exception as error:
            warn(extension.name, error)
        self.build_temp = build_temp


def warn(missing: str, error: Exception) -> None:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
    print(
        f"\nWARNING: ltvr is being installed WITHOUT {missing}, which did not compile "
        f"({reason}); install a newer g++ and run the install again.\n",
        file=sys.stderr,
        flush=True,
    )


def extension(name: str, flags: list[str]) -> Extension:
    """Return ltvr._C for one instruction set; at::vec needs the macros beside the flags."""
    macros = [f"-DCPU_CAPABILITY={name}", f"-DCPU_CAPABILITY_{name}"]
    return CppExtension(
        f"ltvr._C_{name.lower()}",
        sorted(str(path) for path in Path("csrc").rglob("*.cpp")),
        depends=sorted(str(path) for path in Path("csrc").rglob("*.h")),
        extra_compile_args=[*OPTIMISATION, *QUIET, *OPENMP, *flags, *macros],
        extra_link_args=[*OPENMP, *(SANITIZERS if SANITIZED else [])],
        optional=True,  # setuptools: do not fail on a missing file
    )


setup(
    packages=[
        *find_packages(include=["ltvr", "ltvr.*"]),
        "ltvr.kernels",
        *(f"ltvr.kernels.{name}" for name in find_packages("kernels")),
    ],
    # The folder kernels/ imports as ltvr.kernels: PyPI has another top-level `kernels`.
    package_dir={"ltvr": "ltvr", "ltvr.kernels": "kernels"},
    package_data={
        "ltvr": [
            "presets/*.yaml",
            "methods/*.yaml",
            "reproduction/catalogue/*.yaml",
            "data/*.txt",
            "py.typed",
        ]
    },
    ext_modules=[extension(*item) for item in INSTRUCTION_SETS.items()],
    cmdclass={"build_ext": OptionalBuildExtension},
)
