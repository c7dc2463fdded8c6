"""
The file-name templates: where each output and each document lands below the output directory.

They are checked as a set when the settings are read, so that no two things can ever meet under
one name and nothing can leave the directory; filling one in is then plain ``str.format``.
"""

from __future__ import annotations

from string import Formatter
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from bulkdl.model import ARCHIVE_SUFFIXES

_JOB = frozenset({"project_id", "job_id"})
_TASK = _JOB | {"task_id"}

# template → (placeholders it may have, placeholders it must have so that names stay apart)
_PLACEHOLDERS: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "job": (_JOB, frozenset({"job_id"})),
    "job_tasks": (_JOB, frozenset({"job_id"})),
    "job_archive": (_JOB | {"suffix"}, frozenset({"job_id", "suffix"})),
    "job_geojson": (_JOB, frozenset({"job_id"})),
    "task_archive": (_TASK | {"suffix"}, frozenset({"job_id", "task_id", "suffix"})),
    "task_geojson": (_TASK, frozenset({"job_id", "task_id"})),
    "task_quicklooks": (_TASK, frozenset({"job_id", "task_id"})),
    "quicklook": (_TASK | {"filename"}, frozenset({"job_id", "task_id", "filename"})),
}
# Stand-ins for comparing templates: a filename may be anything.
_SAMPLE = {"project_id": "\0p", "job_id": "\0j", "task_id": "\0t", "filename": "\0f", "suffix": ""}
_PLAIN = "expected plain placeholders such as {job_id}"


class Names(BaseModel):
    """Templates, relative to the output directory, with forward slashes."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    job: str = Field("{project_id}/{job_id}/job.json", description="the job as UP42 answered it")
    job_tasks: str = Field(
        "{project_id}/{job_id}/job_tasks.json", description="its tasks as UP42 answered them"
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
    quicklook: str = Field(
        "{project_id}/{job_id}/{task_id}/quicklooks/{filename}", description="one quicklook"
    )

    @field_validator("*")
    @classmethod
    def _is_safe(cls, template: str, info: ValidationInfo) -> str:
        known, needed = _PLACEHOLDERS[str(info.field_name)]
        found = _placeholders(template)
        if unknown := sorted(found - known):
            raise ValueError(f"unknown placeholder {_braced(unknown)}; known here: {_braced(sorted(known))}")
        if missing := sorted(needed - found):
            raise ValueError(f"needs {_braced(missing)}, or two outputs would get one name")
        if wrong := _path_problem(template):
            raise ValueError(wrong)
        return template

    @model_validator(mode="after")
    def _stay_apart(self) -> Self:
        paths = {name: _samples(template) for name, template in self.model_dump().items()}
        for name, mine in paths.items():
            for other, theirs in paths.items():
                if name != other and any(_meet(one, two) for one in mine for two in theirs):
                    raise ValueError(f"{name} and {other} could give two outputs one name")
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
        return "expected forward slashes and no control characters"
    if template.startswith("/") or ":" in segments[0]:
        return "expected a path relative to the output directory"
    if any(segment in ("", ".", "..") for segment in segments):
        return "expected no empty segment, no '.' and no '..'"
    if segments[0].casefold() == ".bulkdl":
        return "the folder .bulkdl is kept for the ledger"
    if "{filename}" in template and segments[-1] != "{filename}":
        return "expected {filename} to be the whole last segment"
    return None


def _samples(template: str) -> list[tuple[str, ...]]:
    suffixes = ARCHIVE_SUFFIXES if "{suffix}" in template else ("",)
    return [
        tuple(template.format(**{**_SAMPLE, "suffix": suffix}).casefold().split("/")) for suffix in suffixes
    ]


def _meet(one: tuple[str, ...], two: tuple[str, ...]) -> bool:
    """Whether *one* and *two* are one path, or *one* would be a folder of *two*."""
    if one[-1] == _SAMPLE["filename"] and one[:-1] == two[: len(one) - 1]:
        return True
    return one == two[: len(one)]


def _braced(names: list[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
