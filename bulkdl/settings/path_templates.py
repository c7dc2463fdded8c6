"""
Path templates: the path of each output and each document, relative to the output directory.

The templates are validated together when the settings are read: two outputs cannot have the same path, and
no path leaves the directory.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bulkdl.settings.template_collisions import (
    RESERVED_FOLDERS,
    can_collide,
    find_name_problem,
    find_shapes,
)
from bulkdl.settings.template_syntax import NAMES, Placeholder, find_placeholders, parse_template

_JOB_ID = frozenset({"project_id", "job_id"})
_JOB = _JOB_ID | {"project_name", "job_name", "created_at"}
_TASK = _JOB | {"task_id", "block"}
_DELIVERY = frozenset(
    {"workspace_id", "delivery_name", "collection_name", "order_id", "order_name", "created_at"}
)
_COLLECTION = _DELIVERY | {"collection_id"}
_ITEM = _COLLECTION | {"item_id"}
_ASSET = _DELIVERY | {"asset_id"}

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
_FILENAME = Placeholder("filename")


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
        found = {placeholder.name for placeholder in find_placeholders(template)}
        if unknown := sorted(found - allowed):
            near = get_close_matches(unknown[0], sorted(allowed), n=1)
            hint = f"; did you mean {_braced(near)}?" if near else ""
            raise ValueError(
                f"unknown placeholder {_braced(unknown)}{hint} (allowed: {_braced(sorted(allowed))})"
            )
        if missing := sorted(required - found):
            raise ValueError(f"needs {_braced(missing)}; otherwise two outputs would have the same path")
        if problem := _path_problem(template) or find_name_problem(template):
            raise ValueError(problem)
        return template

    @model_validator(mode="after")
    def _check_paths_differ(self) -> Self:
        templates = self.model_dump()
        paths = {name: find_shapes(name, template) for name, template in templates.items()}
        for name, shapes in paths.items():
            for other, other_shapes in paths.items():
                if name != other and any(can_collide(a, b) for a in shapes for b in other_shapes):
                    hint = ""
                    if any(
                        each.name in NAMES for each in find_placeholders(templates[name] + templates[other])
                    ):
                        hint = "; a name can be any text, so put it into the segment of an ID"
                    raise ValueError(f"{name} and {other} could give two outputs the same path{hint}")
        unknown = _find_value_keys(self.asset_delivery) - _find_value_keys(self.asset)
        if unknown:
            raise ValueError(
                f"asset needs {_braced(sorted(unknown))}, as asset_delivery has it: verify --rebuild finds "
                "delivery.json by the path of asset.json"
            )
        return self


def _find_value_keys(template: str) -> set[str]:
    return {each.key for each in find_placeholders(template) if each.is_descriptive}


def _path_problem(template: str) -> str | None:
    segments = parse_template(template)
    texts = ["".join(part for part in segment if isinstance(part, str)) for segment in segments]
    if any("\\" in text or any(ord(letter) < 32 for letter in text) for text in texts):
        return "expected forward slashes and a path without control characters"
    if not segments[0] or ":" in texts[0]:
        return "expected a path relative to the output directory"
    if any(segment in ((), (".",), ("..",)) for segment in segments):
        return "expected a path without empty segments, '.' and '..'"
    if segments[0] == (texts[0],) and texts[0].casefold() in RESERVED_FOLDERS:
        owner = "ledger" if texts[0].casefold() == ".bulkdl" else "catalogue"
        return f"the name {texts[0]} is reserved for the {owner}"
    if any(_FILENAME in segment for segment in segments) and segments[-1] != (_FILENAME,):
        return "expected {filename} to be the whole last segment"
    return None


def reserved_names(templates: Mapping[str, str]) -> frozenset[str]:
    """Return the names of the documents of deliveries in lower case, which their files must not have."""
    documents = ("collection", "delivery", "item", "asset", "asset_delivery")
    last = (parse_template(templates[name])[-1] for name in documents)
    return frozenset(
        "".join(map(str, each)).lower() for each in last if all(isinstance(p, str) for p in each)
    )


def _braced(names: Iterable[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
