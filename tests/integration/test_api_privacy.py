"""Several accounts that measure a person's distance from chosen places do not find where the person is."""

from __future__ import annotations

import asyncio
import math

import h3
import numpy as np
import pytest
from api_world import Person, World

from configs.contracts.people import GRID_RESOLUTION, haversine_km, snap

pytestmark = pytest.mark.servers

HALF_A_CELL_KM = 3.0
"""Half of the least width of a resolution-6 cell where this test is (about 6.2 km)."""


def offset(origin: tuple[float, float], east_km: float, north_km: float) -> tuple[float, float]:
    return origin[0] + north_km / 111.2, origin[1] + east_km / (111.2 * math.cos(math.radians(origin[0])))


async def shown(viewer: Person, target: Person) -> float | None:
    """The distance that the viewer is shown for the target; None when the target is not shown."""
    found = await viewer.ok("GET", "/matching/cards?limit=100&maxDistanceKm=500")
    return next((card["distanceKm"] for card in found["cards"] if card["userId"] == target.user_id), None)


async def test_trilateration_ends_half_a_cell_away(world: World) -> None:
    cell = h3.latlng_to_cell(64.9, -18.6, GRID_RESOLUTION)
    centre = h3.cell_to_latlng(cell)
    corner = h3.cell_to_boundary(cell)[0]
    true = (centre[0] + 0.97 * (corner[0] - centre[0]), centre[1] + 0.97 * (corner[1] - centre[1]))
    assert h3.latlng_to_cell(*true, GRID_RESOLUTION) == cell
    target = await world.register("sugar_daddy", at=true)
    await target.ok("PUT", "/users/me/preferences", json={"maxDistanceKm": 500})
    places = [
        offset(true, radius * math.sin(angle), radius * math.cos(angle))
        for radius in (4, 9, 25, 60) for angle in np.linspace(0, 2 * math.pi, 6, endpoint=False)
    ]
    viewers = list(await asyncio.gather(*(world.register("sugar_baby", at=place) for place in places)))
    for viewer in viewers:
        await viewer.ok("PUT", "/users/me/preferences", json={"maxDistanceKm": 500})
    await world.until_near(viewers[-1], target)
    measured = [await shown(viewer, target) for viewer in viewers]
    assert None not in measured

    east, north = np.meshgrid(np.arange(-12, 12, 0.2), np.arange(-12, 12, 0.2))
    error = np.zeros_like(east)
    for place, distance in zip(places, measured, strict=True):
        assert distance is not None
        latitude, longitude, _ = snap(*place)
        north_km = (true[0] - latitude) * 111.2 + north
        east_km = (true[1] - longitude) * 111.2 * math.cos(math.radians(true[0])) + east
        error += (np.hypot(east_km, north_km) - distance) ** 2
    best = np.unravel_index(np.argmin(error), error.shape)
    guess = offset(true, float(east[best]), float(north[best]))
    assert haversine_km(*guess, *true) >= HALF_A_CELL_KM

    moved = (centre[0] - 0.9 * (corner[0] - centre[0]), centre[1] - 0.9 * (corner[1] - centre[1]))
    assert h3.latlng_to_cell(*moved, GRID_RESOLUTION) == cell
    await target.ok("PUT", "/users/me/location", json={"latitude": moved[0], "longitude": moved[1]})
    assert [await shown(viewer, target) for viewer in viewers] == measured
