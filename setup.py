"""Build of ltvr: the package, the folder kernels/ as ltvr.kernels, and the C++ extension.

Metadata is in pyproject.toml. The extension is optional: where it does not compile, the install
succeeds with a warning, and ltvr says what is missing when an operator needs it (ltvr/ops.py).
"""

import sys
from pathlib import Path

from setuptools import find_packages, setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

OPENMP = ["-fopenmp"] if sys.platform.startswith("linux") else []


class OptionalBuildExtension(BuildExtension):
    """Compile with ninja; without a working compiler, warn and go on."""

    def build_extensions(self) -> None:
        try:
            super().build_extensions()
        except Exception as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else repr(error)
            print(
                "\nWARNING: ltvr is being installed WITHOUT its C++ extension, which did not "
                f"compile ({reason}); install g++ and run the install again.\n",
                file=sys.stderr,
                flush=True,
            )


extension = CppExtension(
    "ltvr._C",
    sorted(str(path) for path in Path("csrc").glob("*.cpp")),
    depends=sorted(str(path) for path in Path("csrc").glob("*.h")),
    extra_compile_args=["-O3", "-g0", *OPENMP],  # no -march=native: a wheel runs on any machine
    extra_link_args=OPENMP,
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
    package_data={"ltvr": ["presets/*.yaml"]},
    ext_modules=[extension],
    cmdclass={"build_ext": OptionalBuildExtension},
)
