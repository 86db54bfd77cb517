"""Numbers, cycles, categories and time series as vectors. All is computed from the values alone; nothing is learned.

A number or a moment of a cycle is an angle: θ from 0 to π over the range of a number, or once around for a cycle. Its vector holds cosine
and sine of θ, 3θ, 5θ …, weighted by 1, 1/3, 1/5 … The inner product of two such vectors is Σ cos(kΔ)/k² (divided by Σ 1/k²), which falls
all the way from Δ = 0 to Δ = π, however many terms there are; with all of them it is the straight line from 1 to −1. So the nearest by the
vector are the nearest by the number. The forms are those of NuTime (Lin et al. 2024): numbers at several scales, and a series as its
shape, mean and deviation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

UNIT, DECADES = 1e-3, 12  # numbers without a range: a thousandth and smaller ones are near 0, and 10⁹ is the largest told apart


def decades(values: np.ndarray) -> np.ndarray:
    """Where numbers of any sign and size are between 0 and 1, by their number of digits; 0 is at 0.5."""
    size = np.log10(1.0 + np.minimum(np.abs(values), 1e300) / UNIT) / DECADES
    return 0.5 + 0.5 * np.sign(values) * np.minimum(size, 1.0)


def angles(turns: np.ndarray, width: int) -> np.ndarray:
    """The vectors of length 1 of angles, float64 ``(n, width)``. turns: float64 ``(n,)``, in half turns. width: even."""
    odd = np.arange(1, width, 2, dtype=np.float64)
    weights = 1.0 / odd
    weights /= np.sqrt((weights**2).sum())
    theta = np.ascontiguousarray(np.pi * turns[:, None] * odd)
    return np.stack([np.cos(theta) * weights, np.sin(theta) * weights], axis=2).reshape(len(turns), width)


@lru_cache(1 << 14)
def signs(position: int, value: Any, width: int) -> np.ndarray:
    """The vector of length 1 of a category: signs that are bits of its hash. Those of two categories are nearly at right angles. position:
    of the attribute, so that equal values of two attributes differ.
    """
    data = value if isinstance(value, bytes) else str(value).encode()
    bits = hashlib.shake_256(b"%d:%s:" % (position, type(value).__name__.encode()) + data).digest((width + 7) // 8)
    return (np.unpackbits(np.frombuffer(bits, np.uint8))[:width] * 2.0 - 1.0) / np.sqrt(width)


def categories(position: int, values: Iterable[Any], width: int) -> np.ndarray:
    """The vector of length 1 of some categories of a point, ``(width,)``; zeros if there are none."""
    total = np.zeros(width)
    for value in dict.fromkeys(values):
        total += signs(position, value, width)
    length = np.sqrt((total**2).sum())
    return total / length if length > 0 else total


@lru_cache(64)
def cosines(window: int, width: int) -> np.ndarray:
    """The first ``width`` cosine waves over a window, from the slowest, float64 ``(waves, window)``: at most ``window`` − 1."""
    waves = np.arange(1, min(width, window - 1) + 1)[:, None]
    return np.sqrt(2.0 / window) * np.cos(np.pi * waves * (np.arange(window) + 0.5) / window)


def series(values: Sequence[float], window: int, width: int) -> tuple[np.ndarray, float, float]:
    """(shape, mean, deviation) of the newest ``window`` values; shorter series are stretched. shape: float64 ``(width,)``, the waves of
    the values less their mean, in units of the deviation, divided by √window; zeros where all values are equal.
    """
    newest = np.asarray(values[-window:], np.float64)
    largest = float(np.abs(newest).max()) or 1.0
    newest = newest / largest
    if len(newest) < window:
        newest = np.interp(np.linspace(0, len(newest) - 1, window), np.arange(len(newest)), newest)
    mean = float(newest.mean())
    centred = newest - mean
    deviation = float(np.sqrt((centred**2).mean()))
    shape = np.zeros(width)
    if deviation > 1e-12:
        waves = cosines(window, width)
        shape[: len(waves)] = waves @ (centred / (deviation * np.sqrt(window)))
    else:
        deviation = 0.0
    return shape, mean * largest, deviation * largest
