"""
Find and import the extensions that other installed distributions register as entry points.

Sources, destinations and processors share these functions, so that their messages are equal. The groups are
``bulkdl.sources``, ``bulkdl.destinations`` and ``bulkdl.processors``.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Any

_MAX_DETAIL_CHARS = 200


def extension_names(group: str) -> tuple[str, ...]:
    """Return the names of the installed extensions of *group*, sorted."""
    return tuple(sorted({entry.name for entry in entry_points(group=group)}))


def load_extension(group: str, name: str) -> Any:
    """
    Import the extension *name* of *group*.

    Raises:
        KeyError: No installed distribution has it.
        ValueError: It cannot be imported, or two distributions have it. The text is for the user.
    """
    found = {entry.value: entry for entry in entry_points(group=group, name=name)}
    if not found:
        raise KeyError(name)
    if len(found) > 1:
        raise ValueError(f"{name} is installed twice ({' and '.join(sorted(found))}); uninstall one of them")
    ((value, entry),) = found.items()
    try:
        return entry.load()
    except Exception as error:  # the code of another distribution
        raise ValueError(f"{name} ({value}) cannot be imported: {describe_error(error)}") from error


def describe_error(error: Exception) -> str:
    """Return type and text of an error of another distribution, in one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:_MAX_DETAIL_CHARS]}"
