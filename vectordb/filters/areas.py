"""Which places lie in an area of the Earth. Places are float64 ``(n, 2)``: latitude and longitude in degrees."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..common import deadline

EARTH_RADIUS_METERS = 6_371_008.8
_AT_A_TIME = 65_536  # places


def in_radius(places: np.ndarray, lat: float, lon: float, meters: float) -> np.ndarray:
    """bool ``(n,)``: at most so far away from (lat, lon), on the sphere."""
    lats, lons = np.radians(places[:, 0]), np.radians(places[:, 1])
    north, east = np.radians(lat), np.radians(lon)
    a = np.sin((lats - north) / 2) ** 2 + np.cos(north) * np.cos(lats) * np.sin((lons - east) / 2) ** 2
    return 2 * EARTH_RADIUS_METERS * np.arcsin(np.sqrt(np.minimum(1.0, a))) <= meters


def in_box(places: np.ndarray, south: float, west: float, north: float, east: float) -> np.ndarray:
    """bool ``(n,)``: inside or on the border. west > east crosses the antimeridian."""
    lats, lons = places[:, 0], places[:, 1]
    across = (west <= lons) & (lons <= east) if west <= east else (lons >= west) | (lons <= east)
    return (south <= lats) & (lats <= north) & across


def in_polygon(places: np.ndarray, corners: Sequence[tuple[float, float]]) -> np.ndarray:
    """bool ``(n,)``: inside of the polygon or on its border. Sides are straight in degrees and take the shorter way around the Earth."""
    inside = np.zeros(len(places), np.bool_)
    lats, lons = unrolled(corners)
    near = np.flatnonzero((places[:, 0] >= min(lats)) & (places[:, 0] <= max(lats)))
    for low in range(0, len(near), _AT_A_TIME):
        some = near[low : low + _AT_A_TIME]
        for turn in (0.0, 360.0, -360.0):
            east = places[some, 1] + turn
            at = some[(east >= min(lons)) & (east <= max(lons))]
            if len(at):
                inside[at] |= _inside(places[at, 0], places[at, 1] + turn, lats, lons)
    return inside


def unrolled(corners: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Latitudes and longitudes of the corners. No side is longer than 180 degrees: longitudes may leave −180 … 180 instead."""
    lats, lons = [corners[0][0]], [corners[0][1]]
    for lat, lon in corners[1:]:
        turn = 360.0 if lon - (before := lons[-1]) < -180 else -360.0 if lon - before > 180 else 0.0
        while lon + turn - before < -180:
            turn += 360.0
        while lon + turn - before > 180:
            turn -= 360.0
        lats.append(lat)
        lons.append(lon + turn)
    return lats, lons


def _inside(lat: np.ndarray, lon: np.ndarray, lats: list[float], lons: list[float]) -> np.ndarray:
    """By the number of sides to the east of each place; places on a side are inside."""
    odd, border = np.zeros(len(lat), np.bool_), np.zeros(len(lat), np.bool_)
    for i in range(len(lats)):
        deadline.check()
        a_lat, a_lon, b_lat, b_lon = lats[i - 1], lons[i - 1], lats[i], lons[i]
        side = (b_lat - a_lat) * (lon - a_lon) - (b_lon - a_lon) * (lat - a_lat)
        between = (np.minimum(a_lat, b_lat) <= lat) & (lat <= np.maximum(a_lat, b_lat))
        between &= (min(a_lon, b_lon) <= lon) & (lon <= max(a_lon, b_lon))
        border |= (side == 0) & between
        spans = (a_lat > lat) != (b_lat > lat)
        odd ^= spans & ((side < 0) if b_lat > a_lat else (side > 0))
    return odd | border
