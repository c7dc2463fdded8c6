"""
Create the destination that a path or a URL names: a directory, an object store, or one of a distribution.

This module is the only one that names the classes of destinations.
"""

from __future__ import annotations

from pathlib import Path
from typing import cast

from bulkdl.destinations.interfaces import (
    Destination,
    DestinationFactory,
    DestinationOptions,
    FolderStore,
)
from bulkdl.destinations.local.destination import LocalDestination
from bulkdl.errors import ConfigError
from bulkdl.extensions import extension_names, load_extension

GROUP = "bulkdl.destinations"
"""The entry point group. The name of an entry point is the scheme of the URL, the value is a factory."""


def _create_local(path: str, options: DestinationOptions) -> Destination:
    return LocalDestination(Path(path), options)


def _create_object_store(url: str, options: DestinationOptions) -> Destination:
    try:
        from bulkdl.destinations.objectstore.destination import create_object_store  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("obstore"):
            raise
        raise ConfigError(
            f"--output {url}",
            "object stores need the extra objectstore; install it with: pip install 'bulkdl[objectstore]'",
        ) from None
    return create_object_store(url, options)


OBJECT_STORES = ("s3", "gs", "az")
"""The URL schemes of object stores."""

DESTINATIONS: dict[str, DestinationFactory] = {
    "file": _create_local,
    **dict.fromkeys(OBJECT_STORES, _create_object_store),
}
"""The factories of bulkdl by URL scheme. The settings convert ``file`` URLs to paths."""


def create_destination(output: Path | str, options: DestinationOptions) -> Destination:
    """
    Return the destination *output*, a path or a URL.

    Raises:
        ConfigError: No installed distribution has a destination for the scheme of the URL, or it cannot be
            imported, or it rejects the URL.
    """
    if isinstance(output, Path):
        return DESTINATIONS["file"](str(output), options)
    scheme = output.partition("://")[0].lower()
    factory = DESTINATIONS.get(scheme) or _load_factory(scheme)
    try:
        return factory(output, options)
    except ValueError as error:
        raise ConfigError(f"--output {output}", str(error)) from None


def _load_factory(scheme: str) -> DestinationFactory:
    installed = {name.lower(): name for name in extension_names(GROUP)}
    if scheme not in installed:
        known = ", ".join(sorted({*DESTINATIONS, *installed}))
        raise ConfigError(
            "--output",
            f"unknown scheme {scheme[:60]!r}; expected a path or one of {known}; install the package that "
            f"provides {scheme[:60]}:// (entry point group {GROUP})",
        )
    try:
        return cast("DestinationFactory", load_extension(GROUP, installed[scheme]))
    except ValueError as error:
        raise ConfigError("--output", str(error)) from error


def require_folders(destination: Destination, purpose: str) -> FolderStore:
    """
    Return the folders of *destination*.

    Raises:
        ConfigError: It has none. *purpose* names what needs them.
    """
    if destination.folders is None:
        raise ConfigError(
            f"--output {destination.location}",
            f"{purpose}, which this destination does not have; choose a local directory",
        )
    return destination.folders
