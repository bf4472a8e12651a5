"""Forty cities with their coordinates and how many live there, for made-up populations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class City:
    """``people_m``: inhabitants of the urban area in millions, rounded."""

    name: str
    latitude: float
    longitude: float
    people_m: float


CITIES: Final = (
    City("New York", 40.7128, -74.0060, 19.5),
    City("London", 51.5074, -0.1278, 11.1),
    City("Paris", 48.8566, 2.3522, 11.1),
    City("Los Angeles", 34.0522, -118.2437, 12.9),
    City("Berlin", 52.5200, 13.4050, 4.7),
    City("San Francisco", 37.7749, -122.4194, 4.6),
    City("Miami", 25.7617, -80.1918, 6.1),
    City("Chicago", 41.8781, -87.6298, 9.4),
    City("Toronto", 43.6532, -79.3832, 6.4),
    City("Sydney", -33.8688, 151.2093, 5.1),
    City("Madrid", 40.4168, -3.7038, 6.7),
    City("Milan", 45.4642, 9.1900, 4.3),
    City("Munich", 48.1351, 11.5820, 2.9),
    City("Amsterdam", 52.3676, 4.9041, 2.5),
    City("Vienna", 48.2082, 16.3738, 2.9),
    City("Zurich", 47.3769, 8.5417, 1.4),
    City("Hamburg", 53.5511, 9.9937, 3.3),
    City("Barcelona", 41.3874, 2.1686, 5.6),
    City("Rome", 41.9028, 12.4964, 4.3),
    City("Brussels", 50.8503, 4.3517, 2.1),
    City("Stockholm", 59.3293, 18.0686, 2.4),
    City("Copenhagen", 55.6761, 12.5683, 2.1),
    City("Oslo", 59.9139, 10.7522, 1.5),
    City("Warsaw", 52.2297, 21.0122, 3.1),
    City("Prague", 50.0755, 14.4378, 2.2),
    City("Lisbon", 38.7223, -9.1393, 2.9),
    City("Dublin", 53.3498, -6.2603, 1.5),
    City("Manchester", 53.4808, -2.2426, 2.8),
    City("Boston", 42.3601, -71.0589, 4.9),
    City("Washington", 38.9072, -77.0369, 6.3),
    City("Houston", 29.7604, -95.3698, 7.3),
    City("Dallas", 32.7767, -96.7970, 7.9),
    City("Atlanta", 33.7490, -84.3880, 6.2),
    City("Seattle", 47.6062, -122.3321, 4.0),
    City("Denver", 39.7392, -104.9903, 3.0),
    City("Austin", 30.2672, -97.7431, 2.4),
    City("Montreal", 45.5017, -73.5673, 4.3),
    City("Melbourne", -37.8136, 144.9631, 5.0),
    City("Auckland", -36.8509, 174.7645, 1.5),
    City("Singapore", 1.3521, 103.8198, 5.9),
)


def city(name: str) -> City:
    """The city of this name, whatever the case. Raises LookupError with the names there are."""
    for known in CITIES:
        if known.name.casefold() == name.strip().casefold():
            return known
    raise LookupError(f"no city called {name!r}; known: {', '.join(known.name for known in CITIES)}")
