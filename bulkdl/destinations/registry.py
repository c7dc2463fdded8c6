"""Create the destination that a path or a URL names. This module is the only one that names the classes."""

from __future__ import annotations

import re
from pathlib import Path

from bulkdl.destinations.interfaces import Destination, DestinationFactory, DestinationOptions
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ConfigError

_URL = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)

DESTINATIONS: dict[str, DestinationFactory] = {}
"""The factories of destinations by the scheme of their URLs. Paths and ``file`` URLs are local."""


def require_local(destination: Destination, purpose: str) -> LocalDestination:
    """
    Return *destination* if it is a local directory.

    Raises:
        ConfigError: It is not. *purpose* names what needs a local directory.
    """
    if not isinstance(destination, LocalDestination):
        raise ConfigError(f"--output {destination.location}", f"{purpose}; choose a local directory")
    return destination


def create_destination(output: Path | str, options: DestinationOptions) -> Destination:
    """Return the destination *output*, a path or a URL."""
    return LocalDestination(Path(output), options)
