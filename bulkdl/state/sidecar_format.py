"""
Convert between the JSON document of a sidecar and the values that it contains.

A sidecar describes the object whose bytes are in the data file. After the commit it also describes the
committed file.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkdl.models import CommittedFile, Digest, RemoteObject, Validator

_VERSION = 1
DURABLE_KEY = "durable"
"""The key of a committed file for whether its bytes were durable before the commit."""
SEGMENTED_KEY = "divided"
"""The key of a sidecar for a segmented data file. The name is part of the file format."""


def object_document(
    identity: str, remote_object: RemoteObject, data_name: str, *, segmented: bool = False
) -> dict[str, Any]:
    """
    Return the sidecar of the data file *data_name*, which contains bytes of *remote_object*.

    Args:
        identity: The identity of the output.
    """
    header = {"version": _VERSION, "output": identity, "data": data_name, SEGMENTED_KEY: segmented}
    return {**header, **asdict(remote_object)}


def committed_document(
    identity: str, file: CommittedFile, data_name: str, *, is_durable: bool
) -> dict[str, Any]:
    """
    Return the sidecar of the data file *data_name*, which is about to be renamed to *file*.

    Args:
        is_durable: Whether the data file was synced, so that a power cut cannot change the published file.
    """
    remote_object = RemoteObject(file.source, file.validator, file.size_bytes, (file.digest,))
    committed = {"key": file.key, "size_bytes": file.size_bytes, "digest": asdict(file.digest)}
    header = object_document(identity, remote_object, data_name)
    return {**header, "committed": {**committed, DURABLE_KEY: is_durable}}


def parse_object(document: dict[str, Any]) -> RemoteObject:
    """
    Return the object that *document* describes.

    Raises:
        KeyError, TypeError: *document* is not a valid sidecar.
    """
    return RemoteObject(
        source=document["source"],
        validator=Validator.from_untrusted(
            **{key: document["validator"][key] for key in ("etag", "last_modified", "generation")}
        ),
        total_bytes=document["total_bytes"],
        digests=tuple(Digest(**digest) for digest in document["digests"]),
    )


def is_durable(document: dict[str, Any]) -> bool:
    """Return whether the committed file of *document* is durable. Sidecars without this record are not."""
    committed = document.get("committed")
    return isinstance(committed, dict) and committed.get(DURABLE_KEY) is True


def parse_committed_file(document: dict[str, Any]) -> CommittedFile:
    """
    Return the committed file that *document* describes.

    Raises:
        KeyError, TypeError: *document* is not a valid sidecar, or does not describe a committed file.
    """
    remote_object, committed = parse_object(document), document["committed"]
    if not isinstance(committed["key"], str):
        raise TypeError("the key of the committed file is not a string")
    return CommittedFile(
        key=committed["key"],
        size_bytes=committed["size_bytes"],
        digest=Digest(**committed["digest"]),
        validator=remote_object.validator,
        source=remote_object.source,
    )
