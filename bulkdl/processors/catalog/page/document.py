"""
Assemble index.html: template, style, scripts, world outlines and the data of all entries.

The content security policy lists the hash of each script. The browser executes no other script, and it
requests only files next to the page. Data is not executable: it is in elements of other types, and `<` is
escaped, so that no text can end its element.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO

_SCRIPTS = ("text", "data", "filter", "world", "map", "list", "card", "controls", "main")
_STYLES = ("vendor/leaflet/leaflet.css", "assets/page.css")
_CHUNK_BYTES = 3 << 16  # a multiple of 3, so that base64 needs no padding before the end


def dump_json(document: object) -> str:
    """Return *document* as ASCII JSON that is safe in every script element."""
    return json.dumps(document, separators=(",", ":")).replace("<", "\\u003c")


def write_document(
    path: Path,
    meta: Mapping[str, object],
    sections: Iterable[tuple[str, str, bytes | bytearray | memoryview]],
) -> None:
    """Write index.html with *meta* and the columns of *sections*."""
    kept = list(sections)
    described = [[name, kind, len(content)] for name, kind, content in kept]
    head, tail = _load_template()
    with path.open("wb") as stream:
        stream.write(head.replace("/* meta */", dump_json({**meta, "sections": described})).encode())
        _write_base64(stream, _compress(content for _, _, content in kept))
        stream.write(tail.encode())


@cache
def _load_template() -> tuple[str, str]:
    """Return the page before and after the columns."""
    styles = "\n".join(_read(name) for name in _STYLES)
    scripts = [_read("vendor/leaflet/leaflet.js"), *(_read(f"assets/{name}.js") for name in _SCRIPTS)]
    page = _read("assets/page.html")
    page = page.replace("<!-- policy -->", _create_policy(styles, scripts))
    page = page.replace("<!-- style -->", f"<style>{styles}</style>")
    page = page.replace("/* world */", dump_json(json.loads(_read("vendor/world_atlas/countries-110m.json"))))
    page = page.replace("<!-- scripts -->", "\n".join(f"<script>{script}</script>" for script in scripts))
    head, _, tail = page.partition("/* columns */")
    return head, tail


def _create_policy(styles: str, scripts: Iterable[str]) -> str:
    hashes = " ".join(_hash(script) for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes} 'self' file:; style-src {_hash(styles)}; "
        "img-src 'self' file: data:; base-uri 'none'; form-action 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _read(name: str) -> str:
    return (files("bulkdl.processors.catalog.page") / name).read_text("utf-8").strip()


def _compress(parts: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    compressor = zlib.compressobj(6)
    for part in parts:
        view = memoryview(part)
        for start in range(0, len(view), 1 << 20):
            yield compressor.compress(view[start : start + (1 << 20)])
        # Typed arrays of the page start at multiples of 4.
        yield compressor.compress(bytes(-len(view) % 4))
    yield compressor.flush()


def _write_base64(stream: BinaryIO, parts: Iterable[bytes]) -> None:
    waiting = bytearray()
    for part in parts:
        waiting += part
        while len(waiting) >= _CHUNK_BYTES:
            stream.write(base64.b64encode(waiting[:_CHUNK_BYTES]))
            del waiting[:_CHUNK_BYTES]
    stream.write(base64.b64encode(waiting))
