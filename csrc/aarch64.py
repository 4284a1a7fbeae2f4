"""Build for aarch64, and run the operators' tests there under emulation: ``make aarch64``.

For a machine of another kind, with Debian or Ubuntu and about 8 GB to spare. Python for aarch64
comes from the distribution, and the packages that this environment has come from pip; both go to
``build/aarch64``. There qemu-user runs ``setup.py`` as on an ARM machine, though with a
cross-compiler, which need not be emulated itself. The tests take about ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "aarch64"
SYSTEM = BUILD / "system"
PACKAGES = BUILD / "packages"
LTVR = BUILD / "lib"
PYTHON = BUILD / "python"

NEEDED = ("qemu-aarch64", "aarch64-linux-gnu-g++", "apt-get", "dpkg")
HOW = (
    "apt-get install qemu-user g++-aarch64-linux-gnu; dpkg --add-architecture arm64; apt-get update"
)
CPU = "neoverse-n1"
# Libraries that PyTorch brings read what Linux says of the CPU, and would read of that of this
# machine. qemu opens these files in place of the real ones.
CPU_FILES = {
    "proc/cpuinfo": "processor: {cpu}\nFeatures: fp asimd aes crc32 atomics fphp asimdhp asimddp\n"
    "CPU implementer: 0x41\nCPU architecture: 8\nCPU variant: 0x3\nCPU part: 0xd0c\n"
    "CPU revision: 1\n\n",
    "sys/devices/system/cpu/cpu{cpu}/regs/identification/midr_el1": "0x00000000413fd0c1\n",
}
# On a CPU without bfloat16 PyTorch's own products in it say so, once.
KNOWN_WARNING = "default:mkldnn_matmul failed:UserWarning"


def fetch_system() -> None:
    """Unpack Debian's Python for aarch64, and all that it depends on, into SYSTEM."""
    depends = ["apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests"]
    depends += ["--no-conflicts", "--no-breaks", "--no-replaces", "--no-enhances"]
    depends += ["python3:arm64", "libpython3-dev:arm64", "libstdc++6:arm64"]
    answer = subprocess.run(depends, stdout=subprocess.PIPE, text=True)
    lines = answer.stdout.splitlines()
    names = sorted({line for line in lines if line.endswith(":arm64") and line[0].isalnum()})
    if not names:
        sys.exit(f"apt knows no packages for arm64; run (as root): {HOW}")
    archives = BUILD / "archives"
    archives.mkdir(parents=True, exist_ok=True)
    subprocess.run(["apt-get", "download", "-q", *names], cwd=archives, check=True)
    for archive in sorted(archives.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(archive), str(SYSTEM)], check=True)
    if not (SYSTEM / "lib").exists():  # of a distribution that has everything in /usr
        (SYSTEM / "lib").symlink_to("usr/lib")
    shutil.rmtree(archives)
    for name, text in CPU_FILES.items():
        for cpu in range(os.cpu_count() or 1):
            path = SYSTEM / name.format(cpu=cpu)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a") as file:
                file.write(text.format(cpu=cpu))


def write_launcher() -> None:
    """Write PYTHON, which is `sys.executable` there, so that child processes come to it too."""
    python = next(SYSTEM.glob("usr/bin/python3.[0-9]*"))
    PYTHON.write_text(
        f'#!/bin/sh\nexport PYTHONHOME="{SYSTEM}/usr" PYTHONNOUSERSITE=1\n'
        f'export PYTHONPATH="{PACKAGES}"\n'
        f'exec qemu-aarch64 -cpu {CPU} -L "{SYSTEM}" -0 "$0" "{python}" "$@"\n'
    )
    PYTHON.chmod(0o755)


def installed() -> dict[str, str]:
    """The packages that ltvr and its tests need, with the versions that this environment has."""
    versions: dict[str, str] = {}
    requirements = [Requirement(name) for name in ("ltvr", "pytest", "hypothesis")]
    while requirements:
        requirement = requirements.pop()
        extras = requirement.extras or {""}
        for each in map(Requirement, metadata.requires(requirement.name) or []):
            where = [{"platform_machine": "aarch64", "extra": extra} for extra in extras]
            needed = each.marker is None or any(map(each.marker.evaluate, where))
            if needed and (each.name.lower() not in versions or each.extras):
                requirements.append(each)
        version = metadata.version(requirement.name)
        versions[requirement.name.lower()] = version.partition("+")[0]
    del versions["ltvr"]
    return versions


def fetch_packages(versions: dict[str, str]) -> None:
    """Install packages of these versions for the Python in SYSTEM."""
    print_version = "import sys, platform; print('%d.%d' % sys.version_info[:2], end=' '); "
    print_version += "print(platform.libc_ver()[1].split('.')[1])"
    command = [str(PYTHON), "-c", print_version]
    python, glibc = subprocess.check_output(command, text=True).split()
    platforms = [f"manylinux_2_{minor}_aarch64" for minor in range(17, int(glibc) + 1)]
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:"]
    command += ["--python-version", python, "--target", str(PACKAGES), "--upgrade"]
    command += [f"--platform={name}" for name in (*platforms, "manylinux2014_aarch64")]
    command += [f"{name}=={version}" for name, version in sorted(versions.items())]
    subprocess.run(command, check=True)


def build() -> None:
    tools = {"CC": "aarch64-linux-gnu-gcc", "CXX": "aarch64-linux-gnu-g++"}
    command = [str(PYTHON), "setup.py", "--quiet", "build"]
    command += ["--build-base", str(BUILD / "objects"), "--build-lib", str(LTVR)]
    subprocess.run(command, cwd=ROOT, env=os.environ | tools, check=True)
    if not any(LTVR.glob("ltvr/_C_default.*aarch64*")):
        sys.exit("the extension was not built for aarch64; see what the compiler says")


def pinned(text: str) -> tuple[str, str]:
    """NAME==VERSION of the command line as a name and a version."""
    name, _, version = text.partition("==")
    if not name or not version:
        raise argparse.ArgumentTypeError(f"{text!r}: expected NAME==VERSION")
    return name.lower(), version


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--instead",
        nargs="*",
        type=pinned,
        default=[],
        metavar="NAME==VERSION",
        help="packages in other versions than here, where an index lacks one for aarch64",
    )
    arguments = parser.parse_args()
    if missing := [name for name in NEEDED if shutil.which(name) is None]:
        sys.exit(f"{', '.join(missing)} not found; on Debian or Ubuntu, as root: {HOW}")
    packages = installed() | dict(arguments.instead)
    fetched, wanted = BUILD / "fetched.json", json.dumps(packages, indent=1, sort_keys=True)
    if not fetched.exists() or fetched.read_text() != wanted:
        shutil.rmtree(BUILD, ignore_errors=True)
        fetch_system()
        write_launcher()
        fetch_packages(packages)
        fetched.write_text(wanted)
    build()
    command = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", KNOWN_WARNING]
    command += ["-c", str(ROOT / "pyproject.toml"), "--rootdir", str(ROOT)]
    # Not the kernels of Triton: emulating its interpreter takes hours.
    command += ["-k", "not triton", str(ROOT / "tests" / "afa")]
    # "CI" tells hypothesis that a slow example is no fault.
    subprocess.run(command, cwd=LTVR, env=os.environ | {"CI": "1"}, check=True)
    command = [str(PYTHON), "-m", "ltvr.train", "--preset", "digits", "--fused", "--epochs", "2"]
    command += ["--crt-epochs", "1", "--out", str(BUILD / "runs")]
    subprocess.run(command, cwd=LTVR, check=True)


if __name__ == "__main__":
    main()
