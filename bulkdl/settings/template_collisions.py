"""
Find path templates that could give two outputs the same path, or a path that is reserved.

Templates are compared by segment. An ID and each digit of a date have a sample value. A name can be any text,
so that two segments with a name are equal unless the text before or behind it differs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bulkdl.settings.template_syntax import (
    DATES,
    MAX_NAME_BYTES,
    NAMES,
    Placeholder,
    Segment,
    expand_date,
    parse_template,
)
from bulkdl.source_spec import file_suffixes

# Sample values: a filename is arbitrary. The files of a delivery never have the names of the items and
# documents in the same folder, so their filenames have a sample of their own.
_SAMPLE = {
    "project_id": "\0p",
    "job_id": "\0j",
    "task_id": "\0t",
    "filename": "\0f",
    "suffix": "",
    "workspace_id": "\0w",
    "collection_id": "\0c",
    "item_id": "\0i",
    "asset_id": "\0a",
}
_DELIVERY_FILES = frozenset({"original", "item_file", "asset_file"})
_DELIVERY_FILENAME = "\0g"
_DIGIT = "\1"

# The names of the ledger and of the catalogue in an output directory.
RESERVED_FOLDERS = frozenset({".bulkdl", "catalog", "index.html"})
_DEVICES = frozenset(
    {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}
)
_MAX_SEGMENT_BYTES = 255
_MAX_ID_BYTES = {"collection_id": 128}
_OTHER_ID_BYTES = 64
_MARK_BYTES = 15  # and the underscores behind a reserved name


@dataclass(frozen=True, slots=True)
class Shape:
    """The text of a segment: all of it, or before and behind a value that can be any text."""

    start: str
    end: str | None = None

    def can_equal(self, other: Shape) -> bool:
        """Return whether a segment of this shape and a segment of *other* can be the same."""
        if self.end is None and other.end is None:
            return _is_same(self.start, other.start)
        if self.end is None:
            return other.can_equal(self)
        if other.end is None:
            text = other.start
            if _SAMPLE["item_id"] in text:  # the folder of an item can have any name as well
                return True
            is_long_enough = len(text) >= len(self.start) + len(self.end)
            return (
                is_long_enough and _begin_alike(text, self.start) and _begin_alike(text[::-1], self.end[::-1])
            )
        return _begin_alike(self.start, other.start) and _begin_alike(self.end[::-1], other.end[::-1])


def _is_same(text: str, other: str) -> bool:
    return len(text) == len(other) and _begin_alike(text, other)


def _begin_alike(text: str, other: str) -> bool:
    """Return whether one of both texts can be the beginning of the other. A digit of a date is any digit."""
    return all(
        a == b or (_DIGIT in (a, b) and (a + b).strip(_DIGIT).isdecimal())
        for a, b in zip(text, other, strict=False)
    )


_FILENAME_SHAPES = {Shape(_SAMPLE["filename"]), Shape(_DELIVERY_FILENAME)}


def find_shapes(name: str, template: str) -> list[tuple[Shape, ...]]:
    """Return the shapes of the segments of the template *name*, for each suffix that its path can have."""
    samples = {**_SAMPLE, "filename": _DELIVERY_FILENAME} if name in _DELIVERY_FILES else _SAMPLE
    suffixes = file_suffixes() if "{suffix}" in template else ("",)
    return [
        tuple(_create_shape(segment, {**samples, "suffix": suffix}) for segment in parse_template(template))
        for suffix in suffixes
    ]


def _create_shape(segment: Segment, samples: dict[str, str]) -> Shape:
    texts = [_choose_sample(part, samples) for part in segment]
    if None not in texts:
        return Shape("".join(filter(None, texts)))
    first, last = texts.index(None), len(texts) - 1 - texts[::-1].index(None)
    return Shape("".join(filter(None, texts[:first])), "".join(filter(None, texts[last + 1 :])))


def _choose_sample(part: str | Placeholder, samples: dict[str, str]) -> str | None:
    """Return a sample of *part* in lower case; None for a name, which can be any text."""
    if isinstance(part, str):
        return part.casefold()
    if part.name in NAMES:
        return None
    if part.name in DATES:
        return expand_date(part.format, lambda count: count * _DIGIT).casefold()
    return samples[part.name].casefold()


def can_collide(path: tuple[Shape, ...], other: tuple[Shape, ...]) -> bool:
    """Return whether *path* can equal *other* or be a directory of it."""
    depth = len(path) - 1
    if len(other) < depth or not all(map(Shape.can_equal, path[:-1], other)):
        return False
    if path[-1] not in _FILENAME_SHAPES:
        return len(other) > depth and path[-1].can_equal(other[depth])
    if path[-1] == Shape(_SAMPLE["filename"]) or len(other) == depth:
        return True
    in_folder = other[depth]
    # See reserved_names.
    is_document = len(other) == len(path) and in_folder.end is None and "\0" not in in_folder.start
    return not is_document and in_folder != Shape(_SAMPLE["item_id"])


def find_name_problem(template: str) -> str | None:
    """Return what is wrong with the names in *template*; None if their paths are safe."""
    for number, segment in enumerate(parse_template(template)):
        placeholders = [part for part in segment if isinstance(part, Placeholder)]
        names = [part for part in placeholders if part.name in NAMES or part.name == "item_id"]
        if len(names) > 1 and any(part.name in NAMES for part in names):
            first, second = (f"{{{part.key}}}" for part in names[:2])
            return f"expected one name in a path segment; separate {first} and {second} with a slash"
        if any(part.name in NAMES for part in names):
            problem = _find_length_problem(segment) or _find_reserved_problem(segment, is_first=number == 0)
            if problem:
                return problem
    return None


def _find_length_problem(segment: Segment) -> str | None:
    lengths = list(_iter_max_lengths(segment))
    if sum(lengths) <= _MAX_SEGMENT_BYTES:
        return None
    return (
        f"expected segments of at most {_MAX_SEGMENT_BYTES} bytes, got up to {sum(lengths)}; use fewer values"
    )


def _iter_max_lengths(segment: Segment) -> Iterator[int]:
    for part in segment:
        if isinstance(part, str):
            yield len(part.encode())
        elif part.name in NAMES:
            yield MAX_NAME_BYTES + _MARK_BYTES
        elif part.name in DATES:
            yield len(expand_date(part.format, lambda count: count * _DIGIT))
        elif part.name == "suffix":
            yield max(map(len, file_suffixes()))
        else:
            yield _MAX_ID_BYTES.get(part.name, _OTHER_ID_BYTES)


def _find_reserved_problem(segment: Segment, *, is_first: bool) -> str | None:
    """Return the reserved name that a name can complete. A name alone is never reserved."""
    if len(segment) == 1:
        return None
    shape = _create_shape(segment, _SAMPLE)
    for reserved in sorted((RESERVED_FOLDERS if is_first else frozenset()) | _DEVICES):
        if shape.can_equal(Shape(reserved)):
            return f"could give the reserved name {reserved!r}; use another text next to the placeholder"
    return None
