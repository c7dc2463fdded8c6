"""
Path templates: the path of each output and each document, relative to the output directory.

The templates are validated together when the settings are read: two outputs cannot have the same path, and
no path leaves the directory. A template can therefore be filled in with ``str.format``.
"""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bulkdl.source_spec import file_suffixes

_JOB = frozenset({"project_id", "job_id"})
_TASK = _JOB | {"task_id"}
_COLLECTION = frozenset({"workspace_id", "collection_id"})
_ITEM = _COLLECTION | {"item_id"}
_ASSET = frozenset({"workspace_id", "asset_id"})

# template → (allowed placeholders, placeholders that are required so that paths differ)
_PLACEHOLDERS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "job": (_JOB, frozenset({"job_id"})),
    "job_tasks": (_JOB, frozenset({"job_id"})),
    "job_archive": (_JOB | {"suffix"}, frozenset({"job_id", "suffix"})),
    "job_geojson": (_JOB, frozenset({"job_id"})),
    "task_archive": (_TASK | {"suffix"}, frozenset({"job_id", "task_id", "suffix"})),
    "task_geojson": (_TASK, frozenset({"job_id", "task_id"})),
    "task_quicklooks": (_TASK, frozenset({"job_id", "task_id"})),
    "quicklook": (_TASK | {"filename"}, frozenset({"job_id", "task_id", "filename"})),
    "collection": (_COLLECTION, frozenset({"collection_id"})),
    "delivery": (_COLLECTION, frozenset({"collection_id"})),
    "original": (_COLLECTION | {"filename"}, frozenset({"collection_id", "filename"})),
    "item": (_ITEM, frozenset({"collection_id", "item_id"})),
    "item_file": (_ITEM | {"filename"}, frozenset({"collection_id", "item_id", "filename"})),
    "asset": (_ASSET, frozenset({"asset_id"})),
    "asset_delivery": (_ASSET, frozenset({"asset_id"})),
    "asset_file": (_ASSET | {"filename"}, frozenset({"asset_id", "filename"})),
}
# Sample values for comparing templates: a filename is arbitrary. The files of a delivery never have the names
# of the items and documents in the same folder, so their filenames have a sample of their own.
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
_PLAIN = "expected plain placeholders such as {job_id}"


class PathTemplates(BaseModel):
    """Templates, relative to the output directory, with forward slashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    job: str = Field("{project_id}/{job_id}/job.json", description="the job as returned by UP42")
    job_tasks: str = Field(
        "{project_id}/{job_id}/job_tasks.json", description="the tasks of the job as returned by UP42"
    )
    job_archive: str = Field("{project_id}/{job_id}/final_output{suffix}", description="the job's archive")
    job_geojson: str = Field("{project_id}/{job_id}/job_output.json", description="the job's data.json")
    task_archive: str = Field(
        "{project_id}/{job_id}/{task_id}/task_output{suffix}", description="a task's archive"
    )
    task_geojson: str = Field(
        "{project_id}/{job_id}/{task_id}/task_output.json", description="a task's data.json"
    )
    task_quicklooks: str = Field(
        "{project_id}/{job_id}/{task_id}/task_quicklook.json", description="a task's list of quicklooks"
    )
    quicklook: str = Field("{project_id}/{job_id}/{task_id}/quicklooks/{filename}", description="a quicklook")
    collection: str = Field(
        "{workspace_id}/{collection_id}/collection.json", description="a STAC collection as returned by UP42"
    )
    delivery: str = Field(
        "{workspace_id}/{collection_id}/delivery.json",
        description="the delivery of a STAC collection as bulkdl listed it",
    )
    original: str = Field(
        "{workspace_id}/{collection_id}/{filename}", description="the original of a STAC collection"
    )
    item: str = Field(
        "{workspace_id}/{collection_id}/{item_id}/item.json", description="a STAC item as returned by UP42"
    )
    item_file: str = Field(
        "{workspace_id}/{collection_id}/{item_id}/{filename}", description="an asset of a STAC item"
    )
    asset: str = Field(
        "{workspace_id}/assets/{asset_id}/asset.json",
        description="an original without a collection as returned by UP42",
    )
    asset_delivery: str = Field(
        "{workspace_id}/assets/{asset_id}/delivery.json",
        description="the delivery of an original without a collection as bulkdl listed it",
    )
    asset_file: str = Field(
        "{workspace_id}/assets/{asset_id}/{filename}", description="an original without a collection"
    )

    @field_validator("*")
    @classmethod
    def _check_template(cls, template: str, info: ValidationInfo) -> str:
        allowed, required = _PLACEHOLDERS[str(info.field_name)]
        found = _placeholders(template)
        if unknown := sorted(found - allowed):
            raise ValueError(f"unknown placeholder {_braced(unknown)}; allowed: {_braced(sorted(allowed))}")
        if missing := sorted(required - found):
            raise ValueError(f"needs {_braced(missing)}; otherwise two outputs would have the same path")
        if problem := _path_problem(template):
            raise ValueError(problem)
        return template

    @model_validator(mode="after")
    def _check_paths_differ(self) -> Self:
        paths = {name: _samples(name, template) for name, template in self.model_dump().items()}
        for name, samples in paths.items():
            for other, other_samples in paths.items():
                if name != other and any(_collide(a, b) for a in samples for b in other_samples):
                    raise ValueError(f"{name} and {other} could give two outputs the same path")
        return self


def _placeholders(template: str) -> set[str]:
    try:
        fields = list(Formatter().parse(template))
    except ValueError:
        raise ValueError(_PLAIN) from None
    if any(spec or conversion for _, _, spec, conversion in fields):
        raise ValueError(_PLAIN)
    return {name for _, name, _, _ in fields if name is not None}


def _path_problem(template: str) -> str | None:
    segments = template.split("/")
    if "\\" in template or any(ord(letter) < 32 for letter in template):
        return "expected forward slashes and a path without control characters"
    if template.startswith("/") or ":" in segments[0]:
        return "expected a path relative to the output directory"
    if any(segment in ("", ".", "..") for segment in segments):
        return "expected a path without empty segments, '.' and '..'"
    if segments[0].casefold() == ".bulkdl":
        return "the directory .bulkdl is reserved for the ledger"
    if "{filename}" in template and segments[-1] != "{filename}":
        return "expected {filename} to be the whole last segment"
    return None


def reserved_names(templates: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the documents of deliveries in lower case, which their files must not have."""
    documents = ("collection", "delivery", "item", "asset", "asset_delivery")
    names = (templates[name].rpartition("/")[2] for name in documents)
    return frozenset(name.lower() for name in names if "{" not in name)


def _samples(name: str, template: str) -> list[tuple[str, ...]]:
    sample = {**_SAMPLE, "filename": _DELIVERY_FILENAME} if name in _DELIVERY_FILES else _SAMPLE
    suffixes = file_suffixes() if "{suffix}" in template else ("",)
    return [
        tuple(template.format(**{**sample, "suffix": suffix}).casefold().split("/")) for suffix in suffixes
    ]


def _collide(path: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Return whether *path* equals *other* or is a directory of it."""
    if path[-1] == _SAMPLE["filename"] and path[:-1] == other[: len(path) - 1]:
        return True
    if path[-1] == _DELIVERY_FILENAME and path[:-1] == other[: len(path) - 1]:
        in_folder = other[len(path) - 1]
        is_document = len(other) == len(path) and "\0" not in in_folder  # see reserved_names
        return not is_document and in_folder != _SAMPLE["item_id"]
    return path == other[: len(path)]


def _braced(names: list[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
