"""Processors that kernels are compiled for, and everything else that compiled code depends on.

A tier is a set of instructions. Code of a tier runs on every processor that has all of them, so it can be compiled on one machine and
shipped to others.
"""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import llvmlite
import numba
from llvmlite import binding
from numba.core import config

_V3 = """
    sse sse2 sse3 ssse3 sse4.1 sse4.2 popcnt cx16 sahf avx avx2 bmi bmi2 f16c fma lzcnt movbe xsave
"""
_V4_VNNI = _V3 + "avx512f avx512bw avx512cd avx512dq avx512vl avx512vnni "
_V4_VPOPCNT = _V4_VNNI + "avx512vpopcntdq avx512bitalg avx512vbmi avx512vbmi2 avx512ifma "


@dataclass(frozen=True)
class Tier:
    """cpu: LLVM's name of the processor whose instructions are scheduled; features: LLVM's names of the instructions used; fast_dot: as
    FAST_DOT.
    """

    cpu: str
    features: tuple[str, ...]
    fast_dot: bool


TIERS = {  # best first
    "v4-vpopcnt": Tier("x86-64-v4", tuple(_V4_VPOPCNT.split()), True),  # Intel since Ice Lake, AMD since Zen 4
    "v4-vnni": Tier("x86-64-v4", tuple(_V4_VNNI.split()), True),  # Intel's Cascade Lake and Cooper Lake
    "v3": Tier("x86-64-v3", tuple(_V3.split()), False),  # Intel since Haswell, AMD since Zen
}
_aim: str | None = None  # the tier that this process compiles for, None for the processor that it runs on


def aim_at(tier: str) -> None:
    """Have this process compile for a tier, whatever processor it runs on. To be called before any kernel is imported.

    Raises RuntimeError when one already was.
    """
    global _aim
    if "vectordb.kernels.jit" in sys.modules:
        raise RuntimeError("kernels were imported before their tier was chosen")
    _aim = tier
    config.CPU_NAME = TIERS[tier].cpu
    config.CPU_FEATURES = ",".join("+" + feature for feature in TIERS[tier].features)
    config.DISABLE_INTEL_SVML = 1  # a library that the user's machine may lack


def aim() -> str | None:
    """The tier that this process compiles for, None for the processor that it runs on."""
    return _aim


def fast_dot() -> bool:
    """Whether the processor multiplies bytes in one instruction (AVX-512 VNNI). $VECTORDB_PLAIN_KERNELS=1 says no: the code of all other
    processors, to be tested on this one.
    """
    if _aim is not None:
        return TIERS[_aim].fast_dot
    if os.environ.get("VECTORDB_PLAIN_KERNELS") == "1":
        return False
    features = _host_features()
    return bool(features.get("avx512vnni") and features.get("avx512f"))


@functools.cache
def _host_features() -> dict[str, bool]:
    try:
        return binding.get_host_cpu_features()
    except RuntimeError:  # LLVM doesn't know this kind of processor
        return {}


def tiers_of_host() -> list[str]:
    """The tiers whose code runs here, best first. None if the user changed numba's settings for code generation."""
    changed = config.CPU_NAME, config.CPU_FEATURES, config.DEBUGINFO_DEFAULT or None, config.BOUNDSCHECK or None
    if _aim is not None or not config.ENABLE_AVX or any(each is not None for each in changed):
        return []
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return []
    have, fast = _host_features(), fast_dot()
    return [name for name, tier in TIERS.items() if tier.fast_dot == fast and all(have.get(feature) for feature in tier.features)]


@functools.cache
def sources() -> str:
    """A digest of the code of all kernels: what one calls of another file is compiled into it."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        text = path.read_bytes()
        digest.update(b"%s %d " % (path.name.encode(), len(text)) + text)
    return digest.hexdigest()


def digests_of_modules(folder: Path) -> dict[str, str]:
    """A digest for each module of a folder: of its own code, of the code of all modules that it imports, directly or not, and of the names
    that others import from each (the code of a kernel that others call is kept with what they need of it).
    """
    codes = {path.stem: path.read_bytes() for path in sorted(folder.glob("*.py"))}
    imported: dict[str, set[str]] = {module: {"__init__"} & codes.keys() for module in codes}
    taken: dict[str, set[str]] = {module: set() for module in codes}
    for module, code in codes.items():
        for source, names in re.findall(rb"^from \.(\w*) import (\([^)]*\)|[^\n]*)", code, re.MULTILINE):
            for name in re.findall(r"\w+", names.decode()):
                if source.decode() in codes:
                    imported[module].add(source.decode())
                    taken[source.decode()].add(name)
                elif name in codes:
                    imported[module].add(name)
    own = {module: hashlib.sha256(code + b"\0" + " ".join(sorted(taken[module])).encode()).digest() for module, code in codes.items()}
    found = {}
    for module in codes:
        every, new = {module}, {module}
        while new:
            new = set().union(*(imported[each] for each in new)) - every
            every |= new
        found[module] = hashlib.sha256(b"".join(own[each] for each in sorted(every))).hexdigest()
    return found


@functools.cache
def sources_of(module: str) -> str:
    """The digest of what the code of a module of kernels depends on, the empty text for one that isn't here."""
    return _digests().get(module, "")


@functools.cache
def _digests() -> dict[str, str]:
    return digests_of_modules(Path(__file__).parent)


def python_tag() -> str:
    """Of this Python, as in the name of an archive: cpython-311."""
    return sys.implementation.cache_tag + getattr(sys, "abiflags", "")


def machine_tag() -> str:
    """Of this system, as in the name of an archive: linux-x86_64."""
    return f"{sys.platform}-{platform.machine().lower()}"


def identity() -> dict[str, str]:
    """What code depends on besides the processor: another of these, and it isn't used."""
    return {
        "python": python_tag(),
        "machine": machine_tag(),
        "numba": numba.__version__,
        "llvmlite": llvmlite.__version__,
    }


def key_of_tier(tier: str) -> dict[str, str]:
    """What an archive says of itself."""
    return identity() | {"sources": sources(), "tier": tier}


def key_of_process() -> dict[str, str]:
    """What a folder of code compiled by this process is named after: the processor with all it has, and numba's settings. Each piece in it
    is named after the sources that it was compiled from.
    """
    if _aim is not None:
        return key_of_tier(_aim)
    features = config.CPU_FEATURES or ",".join(sorted(name for name, present in _host_features().items() if present))
    settings = (config.OPT, config.DEBUGINFO_DEFAULT, config.BOUNDSCHECK, config.ENABLE_AVX, config.DISABLE_INTEL_SVML)
    return identity() | {
        "cpu": config.CPU_NAME or binding.get_host_cpu_name(),
        "features": features,
        "fast dot": str(fast_dot()),
        "settings": " ".join(map(str, settings)),
    }
