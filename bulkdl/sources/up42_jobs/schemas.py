"""Pydantic models of the UP42 JSON objects. They declare only the fields that bulkdl uses."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from bulkdl.sources.up42_common.fields import Document, Identity, Text, Timestamp, Word


def _default_mode(value: Any) -> Any:
    return "DEFAULT" if value is None else value


class JobDocument(Document):
    id: Identity
    status: Word
    created_at: Timestamp = Field(alias="createdAt")
    finished_at: Timestamp | None = Field(None, alias="finishedAt")
    name: Text | None = None
    mode: Annotated[Word, BeforeValidator(_default_mode)] = "DEFAULT"
    workflow_id: Text | None = Field(None, alias="workflowId")


class ProjectDocument(Document):
    name: Text | None = None


def _default_parents(value: Any) -> Any:
    return [] if value is None else value


def _ignore_invalid_block(value: Any) -> Any:
    # The block is needed only for paths that contain its name.
    name = value.get("name") if isinstance(value, dict) else None
    return {"name": name} if isinstance(name, str) else None


class BlockDocument(Document):
    name: Text


class TaskDocument(Document):
    id: Identity
    status: Word
    name: Annotated[Text, BeforeValidator(lambda value: "" if value is None else value)] = ""
    parent_ids: Annotated[list[Text], BeforeValidator(_default_parents)] = Field([], alias="parentsIds")
    block: Annotated[BlockDocument | None, BeforeValidator(_ignore_invalid_block)] = None
