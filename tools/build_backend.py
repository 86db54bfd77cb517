"""setuptools' backend, which asks for numba where kernels are compiled: for a wheel, not for an editable installation."""

import os

from setuptools import build_meta
from setuptools.build_meta import *  # noqa: F403


def get_requires_for_build_wheel(config_settings=None):
    """What a wheel is built with, besides setuptools."""
    needed = build_meta.get_requires_for_build_wheel(config_settings)
    return needed if os.environ.get("VECTORDB_KERNEL_TIERS") == "none" else [*needed, "numba>=0.62"]
