"""
Write the catalogue of an output directory from its ledgers and its files.

The function can be used during a run. It needs no lease: it reads each ledger in one transaction and
publishes the catalogue as a whole.
"""

from __future__ import annotations

import heapq
import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bulkdl import __version__
from bulkdl.destinations.interfaces import STATE_FOLDER
from bulkdl.errors import ApiError, ConfigError, DestinationError, LedgerError
from bulkdl.ledger import lease
from bulkdl.ledger.catalog_queries import iter_containers, read_transaction
from bulkdl.maintenance.status import find_ledgers
from bulkdl.models import ContainerRef, Durability, Reason
from bulkdl.os_errors import map_os_errors
from bulkdl.processors.catalog.build import (
    CatalogRequest,
    CatalogResult,
    Records,
    write_catalog,
)
from bulkdl.processors.catalog.facts import CatalogInfo
from bulkdl.processors.catalog.output_tree import OutputTree
from bulkdl.processors.catalog.records import DocumentKey, LedgerContainer, LedgerOutput
from bulkdl.sources.interfaces import SourceLayout
from bulkdl.sources.path_values import fill_template

_UNPACKER = "unpack"


def create_catalog(
    stop: threading.Event,
    output: Path | str,
    layouts: Sequence[SourceLayout],
    state: Path | None = None,
    *,
    formats: Sequence[str],
    checksums: bool = False,
    georeferences: bool = False,
    durability: Durability = Durability.FULL,
) -> CatalogResult:
    """
    Write the catalogue of *output*; blocks.

    Args:
        stop: Ends the work when it is set; the old catalogue stays.
        layouts: The sources with their path templates, which determine the names of the documents.
        formats, checksums, georeferences: See ``CatalogRequest``.

    Raises:
        ConfigError: *output* is not a local directory, or there is no ledger.
        LedgerError, DestinationError: A ledger cannot be read, or the catalogue cannot be written.
        ReadStopped: *stop* is set.
    """
    if not isinstance(output, Path):
        raise ConfigError(f"--output {output}", "a catalogue needs local files; choose a local directory")
    ledgers = find_ledgers(output, state)
    with ExitStack() as closing, map_os_errors(output):
        opened = {name: closing.enter_context(read_transaction(path)) for name, path in ledgers.items()}
        streams = []
        for name, connection in opened.items():
            prefix = f"{name}/" if name != "." and state is None else ""
            tree = OutputTree(output, prefix, ledgers[name].parent / "processors" / _UNPACKER)
            streams.append(_iter_records(connection, tree, layouts))
        running = next(filter(None, map(_find_running, opened.values())), "")
        request = CatalogRequest(
            output,
            output / STATE_FOLDER / "catalog",
            formats,
            partial(_create_info, output, running, frozenset(formats)),
            checksums=checksums,
            georeferences=georeferences,
            sync=durability is not Durability.NONE,
        )
        return _write(stop, request, heapq.merge(*streams, key=_order))


def _write(stop: threading.Event, request: CatalogRequest, records: Records) -> CatalogResult:
    try:
        return write_catalog(stop, request, records)
    except sqlite3.DatabaseError as error:
        raise _convert(error, request.output) from error


def _convert(error: sqlite3.DatabaseError, output: Path) -> LedgerError | DestinationError:
    detail = f"{output}: {error}"
    if getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LedgerError(detail)
    is_full = getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
    return DestinationError(Reason.DISK_FULL if is_full else Reason.DISK_ERROR, detail)


def _create_info(
    output: Path, running: str, formats: frozenset[str], folder: Path, index: Path
) -> CatalogInfo:
    return CatalogInfo(
        output, folder, index, datetime.now(UTC), __version__, running=running, formats=formats
    )


def _order(record: tuple[LedgerContainer, OutputTree]) -> tuple[str, str, str, str]:
    container, tree = record
    return container.scope, container.source, container.id, tree.prefix


def _find_running(connection: sqlite3.Connection) -> str:
    """Return the run that holds the lease now; empty if there is none."""
    holder = lease.read_lease(connection)
    if holder is None:
        return ""
    liveness = lease.check_liveness(holder, lease.Owner.current(""), datetime.now(UTC))
    return holder.owner.run_id if liveness is lease.Liveness.RUNNING else ""


def _iter_records(
    connection: sqlite3.Connection, tree: OutputTree, layouts: Sequence[SourceLayout]
) -> Iterator[tuple[LedgerContainer, OutputTree]]:
    by_name = {layout.source_type.name: layout for layout in layouts}
    for row, outputs in iter_containers(connection):
        layout = by_name.get(row["source"])
        yield _read_container(row, outputs, layout), tree


def _read_container(
    row: sqlite3.Row, outputs: Sequence[sqlite3.Row], layout: SourceLayout | None
) -> LedgerContainer:
    ref = ContainerRef(row["source"], row["scope"], row["container_id"])
    return LedgerContainer(
        source=ref.source,
        scope=ref.scope,
        id=ref.id,
        name=row["name"] or "",
        status=row["status"],
        created_at=_format_time(row["created_at"]),
        finished_at=_format_time(row["finished_at"]),
        failure=row["reason"] or "",
        failure_detail=row["detail"] or "",
        outputs=tuple(map(_read_output, outputs)),
        document_key=_find_document_key(ref, layout, json.loads(row["path_values"])),
    )


def _read_output(row: sqlite3.Row) -> LedgerOutput:
    unpack_state = row["unpack_state"] or ""
    return LedgerOutput(
        parent=row["parent"],
        kind=row["kind"],
        name=row["name"],
        state=row["state"],
        reason=row["reason"] or "",
        detail=row["detail"] or "",
        key=row["key"] or "",
        size_bytes=row["size_bytes"] or 0,
        digest=row["digest"] or "",
        unpack_state=unpack_state,
        unpack_detail=(row["unpack_failure"] if unpack_state == "failed" else row["unpack_detail"]) or "",
        recorded_at=f"{row['recorded_at']} {row['unpacked_at']}",
    )


def _format_time(text: str | None) -> str:
    """Return a time of the ledger in RFC 3339 with ``Z``."""
    if not text:
        return ""
    plain = datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None).isoformat()
    return f"{plain.rstrip('0') if '.' in plain else plain}Z"


def _find_document_key(
    ref: ContainerRef, layout: SourceLayout | None, path_values: Mapping[str, str]
) -> DocumentKey | None:
    """Return the function from the name of a document and the folder of an item to the key."""
    if layout is None:
        return None
    templates = layout.templates
    fields = {
        **path_values,
        "project_id": ref.scope,
        "job_id": ref.id,
        "workspace_id": ref.scope,
        "collection_id": ref.id,
        "asset_id": ref.id.removeprefix("asset-"),
    }

    def locate(name: str, item_folder: str) -> str:
        template = templates.get(name)
        if template is None:
            return ""
        try:
            return fill_template(template, {**fields, "item_id": item_folder})
        except ApiError:  # the container was listed with other path templates
            return ""

    return locate
