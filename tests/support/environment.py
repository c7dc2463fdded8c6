"""Remove the variables of the developer's shell that change how bulkdl connects and which settings it has."""

from collections.abc import MutableMapping


def clear_environment(env: MutableMapping[str, str]) -> None:
    """Remove proxy variables, settings and credentials from *env*. Tests set the variables that they need."""
    for name in list(env):
        if name.lower().endswith("_proxy") or name.startswith(("BULKDL_", "UP42_")):
            del env[name]
