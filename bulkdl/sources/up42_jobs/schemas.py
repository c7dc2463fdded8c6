"""The shapes of UP42's JSON objects, of all years: the fields that are used, as strict as needed."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeGuard

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


def is_identity(value: object) -> TypeGuard[str]:
    """Whether *value* can be the id of something here: it is safe as one segment of a path."""
    return isinstance(value, str) and _IDENTITY.fullmatch(value) is not None


def _identity(value: str) -> str:
    if not is_identity(value):
        raise ValueError("no usable id (1 to 64 of A-Z, a-z, 0-9, _ and -)")
    return value


def _word(value: str) -> str:
    word = "_".join(value.upper().replace("_", " ").split())
    if not word or len(word) > 64 or not word.isprintable():
        raise ValueError("no usable word")
    return word


def _readable(value: Any) -> Any:
    # JSON may hold half of a surrogate pair; nothing could write it down again.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _aware(value: Any) -> Any:
    """Give a moment without an offset UTC: all that UP42 ever sent is UTC."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}[T ][\d:.,]+", text, re.ASCII):
            return text + "Z"
        return text
    raise ValueError("a moment as a text expected")


def _utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("a moment out of range") from None


Identity = Annotated[str, AfterValidator(_identity)]
Word = Annotated[str, BeforeValidator(_readable), AfterValidator(_word)]
Text = Annotated[str, BeforeValidator(_readable)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_aware), AfterValidator(_utc)]


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


def _default_mode(value: Any) -> Any:
    return "DEFAULT" if value is None else value


class JobDocument(_Document):
    id: Identity
    status: Word
    created_at: Timestamp = Field(alias="createdAt")
    finished_at: Timestamp | None = Field(None, alias="finishedAt")
    name: Text | None = None
    mode: Annotated[Word, BeforeValidator(_default_mode)] = "DEFAULT"
    workflow_id: Text | None = Field(None, alias="workflowId")


def _no_parents(value: Any) -> Any:
    return [] if value is None else value


class TaskDocument(_Document):
    id: Identity
    status: Word
    name: Annotated[Text, BeforeValidator(lambda value: "" if value is None else value)] = ""
    parent_ids: Annotated[list[Text], BeforeValidator(_no_parents)] = Field([], alias="parentsIds")
