"""Map the properties of providers to those of STAC. A value without a clear meaning is not mapped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_CLOUDS = ("eo:cloud_cover", "cloudCover", "cloudCoverPercentage")
_TEXTS = (("platform", "platform"), ("constellation", "constellation"))
# STAC property → names of providers, minimum, maximum
_NUMBERS = (
    ("gsd", ("gsd", "resolution"), 0.01, 100_000.0),
    ("view:incidence_angle", ("view:incidence_angle", "incidenceAngle"), 0.0, 90.0),
    ("view:azimuth", ("view:azimuth", "azimuthAngle"), 0.0, 360.0),
    ("view:off_nadir", ("view:off_nadir",), 0.0, 90.0),
    ("view:sun_azimuth", ("view:sun_azimuth", "illuminationAzimuthAngle"), 0.0, 360.0),
    ("view:sun_elevation", ("view:sun_elevation", "illuminationElevationAngle"), -90.0, 90.0),
)
_MAX_TEXT_CHARS = 100


def common_properties(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the STAC properties that *properties* contains under a known name with a plausible value."""
    found: dict[str, Any] = {}
    for name, provider_name in _TEXTS:
        text = properties.get(provider_name)
        if isinstance(text, str) and 0 < len(text) <= _MAX_TEXT_CHARS:
            found[name] = text
    cloud = _first_number([properties.get(name) for name in _CLOUDS] + [_nested_cloud(properties)], 0, 100)
    if cloud is not None:
        found["eo:cloud_cover"] = cloud
    for name, provider_names, minimum, maximum in _NUMBERS:
        number = _first_number([properties.get(key) for key in provider_names], minimum, maximum)
        if number is not None:
            found[name] = number
    orbit = properties.get("sat:orbit_state") or _nested(properties, "orbit", "direction")
    if isinstance(orbit, str) and orbit.lower() in ("ascending", "descending", "geostationary"):
        found["sat:orbit_state"] = orbit.lower()
    return found


def _nested(properties: Mapping[str, Any], outer: str, inner: str) -> Any:
    value = properties.get(outer)
    return value.get(inner) if isinstance(value, Mapping) else properties.get(f"{outer}.{inner}")


def _nested_cloud(properties: Mapping[str, Any]) -> Any:
    return _nested(properties, "contentDescription", "cloudCoverPercentage")


def _first_number(values: list[Any], minimum: float, maximum: float) -> float | None:
    for value in values:
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if is_number and minimum <= value <= maximum:  # False for NaN
            return float(value)
    return None
