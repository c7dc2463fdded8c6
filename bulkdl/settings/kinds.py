"""
The ``[kinds.NAME]`` tables, and the settings that are shorthands for one of their keys.

``archive_concurrency`` and ``concurrency`` in ``[kinds.archive]`` are the same setting.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from bulkdl.settings.field_types import Concurrency, SizeBytes
from bulkdl.source_spec import kind_names, kind_spec


class KindTable(BaseModel):
    """One ``[kinds.NAME]`` table: the limits of the downloads of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    concurrency: Concurrency = Field(
        "auto", description="concurrent downloads; auto adapts to the throughput"
    )
    max_size: SizeBytes = Field(0, gt=0, description="maximum size of an output; by default that of the kind")


# The kinds that had settings of their own before there were tables.
_SHORTHAND_KINDS = ("archive", "quicklook", "geojson")
SHORTHANDS = {(kind, name): f"{kind}_{name}" for kind in _SHORTHAND_KINDS for name in KindTable.model_fields}
"""The setting that is a shorthand for a key of a table, by the kind and the name of the key."""


def table_keys() -> list[tuple[str, str]]:
    """Return the kind and the name of each key of the tables of all kinds."""
    return [(kind, name) for kind in kind_names() for name in KindTable.model_fields]


def complete_kinds(
    tables: Mapping[str, KindTable], values: Mapping[str, Any], given: Collection[str]
) -> dict[str, KindTable]:
    """
    Return the tables of all kinds with all keys.

    Args:
        values: The values of all settings.
        given: The settings that are not defaults.

    Raises:
        ValueError: A key of a table and its shorthand are given with different values.
    """
    complete = {}
    for kind in kind_names():
        table = tables.get(kind)
        keys: dict[str, Any] = {"max_size": kind_spec(kind).max_size_bytes}
        if table is not None:
            keys |= {name: getattr(table, name) for name in table.model_fields_set}
        for name in KindTable.model_fields:
            shorthand = SHORTHANDS.get((kind, name))
            if shorthand is None:
                continue
            if table is None or name not in table.model_fields_set:
                keys[name] = values[shorthand]
            elif shorthand in given and keys[name] != values[shorthand]:
                raise ValueError(describe_conflict(kind, name))
        complete[kind] = KindTable(**keys)
    return complete


def describe_conflict(kind: str, name: str) -> str:
    """Return the problem of a key of a table that is given together with its shorthand."""
    return f"{kind}_{name} and kinds.{kind}.{name} are the same setting; set only one of them"


def given_keys(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the kind and the name of each known key in the tables of raw *values*."""
    tables = values.get("kinds")
    if not isinstance(tables, dict):
        return []
    return [
        (kind, name)
        for kind, name in table_keys()
        if isinstance(tables.get(kind), dict) and name in tables[kind]
    ]
