"""Puts compiled kernels into a wheel. Everything else about the package is in pyproject.toml.

VECTORDB_KERNEL_TIERS says for which processors: ``host`` (the default: the machine that builds), ``all``, ``none``, or names of tiers
(docs/KERNELS.md). Where they can't be made the wheel is made without them, and kernels are compiled on first use.
"""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent


class BuildWithKernels(build_py):
    """Copies the package, then compiles its kernels. An editable installation has none: its sources change."""

    def run(self):
        super().run()
        wanted = os.environ.get("VECTORDB_KERNEL_TIERS", "host")
        if self.editable_mode or wanted == "none":
            return
        into = Path(self.build_lib).resolve() / "vectordb" / "kernels" / "archives"
        command = [sys.executable, str(ROOT / "tools" / "kernels.py"), "build", "--tiers", wanted, "--into", str(into)]
        self.announce(f"compiling search kernels ({wanted})", level=2)
        failed = subprocess.run(command, cwd=ROOT).returncode
        if failed and "VECTORDB_KERNEL_TIERS" in os.environ:
            raise SystemExit(f"the kernels asked for by VECTORDB_KERNEL_TIERS={wanted} can't be compiled")
        if failed:
            print("warning: no compiled search kernels are installed; they are compiled on first use", file=sys.stderr)


setup(cmdclass={"build_py": BuildWithKernels})
