"""Types of the fields in UP42 JSON documents: IDs, words, texts and timestamps, checked and normalised."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeGuard

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict

_IDENTITY = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_COLLECTION_IDENTITY = re.compile(r"[A-Za-z0-9_-](?:[A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?", re.ASCII)


def is_identity(value: object) -> TypeGuard[str]:
    """Return whether *value* is a valid ID. An ID is used as one segment of a path."""
    return isinstance(value, str) and _IDENTITY.fullmatch(value) is not None


def is_collection_identity(value: object) -> TypeGuard[str]:
    """
    Return whether *value* is a valid ID of a STAC collection. It is used as one segment of a path.

    Such an ID can contain dots. A file system can change or reject a name that ends with one.
    """
    return isinstance(value, str) and _COLLECTION_IDENTITY.fullmatch(value) is not None


def _check_identity(value: str) -> str:
    if not is_identity(value):
        raise ValueError("invalid ID: expected 1 to 64 characters of A-Z, a-z, 0-9, _ and -")
    return value


def _normalise_word(value: str) -> str:
    word = "_".join(value.upper().replace("_", " ").split())
    if not word or len(word) > 64 or not word.isprintable():
        raise ValueError("invalid word: expected 1 to 64 printable characters")
    return word


def _replace_surrogates(value: Any) -> Any:
    # JSON can contain half of a surrogate pair, which cannot be encoded as UTF-8.
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def _add_utc(value: Any) -> Any:
    """Add UTC to a timestamp without an offset: UP42 sends all timestamps in UTC."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}[T ][\d:.,]+", text, re.ASCII):
            return text + "Z"
        return text
    raise ValueError("expected a timestamp as text")


def _convert_to_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("the timestamp is out of range") from None


Identity = Annotated[str, AfterValidator(_check_identity)]
Word = Annotated[str, BeforeValidator(_replace_surrogates), AfterValidator(_normalise_word)]
Text = Annotated[str, BeforeValidator(_replace_surrogates)]
Timestamp = Annotated[AwareDatetime, BeforeValidator(_add_utc), AfterValidator(_convert_to_utc)]


class Document(BaseModel):
    """Base class of the models. Unknown fields are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)
