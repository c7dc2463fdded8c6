"""
What the sidecar of a part says: of which object the bytes are, and, once they are committed, where they went.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from bulkdl.models import CommittedFile, Digest, Output, RemoteObject, Validator

_VERSION = 1


def of_object(
    output: Output, stored: RemoteObject, data_name: str, *, divided: bool = False
) -> dict[str, Any]:
    """The document beside the file *data_name*, which holds some bytes of *stored*."""
    told = {"version": _VERSION, "output": output.identity, "data": data_name, "divided": divided}
    return {**told, **asdict(stored)}


def of_receipt(output: Output, receipt: CommittedFile, data_name: str) -> dict[str, Any]:
    """The document beside the file *data_name*, which is about to become the file of *receipt*."""
    stored = RemoteObject(receipt.source, receipt.validator, receipt.size_bytes)
    committed = {"key": receipt.key, "size_bytes": receipt.size_bytes, "digest": asdict(receipt.digest)}
    return {**of_object(output, stored, data_name), "committed": committed}


def object_in(document: dict[str, Any]) -> RemoteObject:
    """
    The object that *document* tells of.

    Raises:
        KeyError: It is no sidecar, or not one of ours; TypeError for the same reason.
    """
    return RemoteObject(
        source=document["source"],
        validator=Validator.storable(
            **{key: document["validator"][key] for key in ("etag", "last_modified", "generation")}
        ),
        total_bytes=document["total_bytes"],
        digests=tuple(Digest(**digest) for digest in document["digests"]),
    )


def receipt_in(document: dict[str, Any]) -> CommittedFile:
    """
    The receipt of what was committed.

    Raises:
        KeyError: Nothing was, or it is no sidecar; TypeError for the same reason.
    """
    stored, committed = object_in(document), document["committed"]
    if not isinstance(committed["key"], str):
        raise TypeError("no key")
    return CommittedFile(
        key=committed["key"],
        size_bytes=committed["size_bytes"],
        digest=Digest(**committed["digest"]),
        validator=stored.validator,
        source=stored.source,
    )
