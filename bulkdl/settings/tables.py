"""The tables of projects and accounts in a config file. They never contain a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from bulkdl.settings.field_types import Uuid


class ProjectTable(BaseModel):
    """One ``[[projects]]`` table: a project and where its API key is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Uuid = Field(description="project ID")
    api_key_env: str | None = Field(None, min_length=1, description="variable that contains the API key")
    api_key_file: Path | None = Field(None, description="file that contains the API key")

    @model_validator(mode="after")
    def _check_key_source(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("expected one of api_key_env and api_key_file, not both")
        return self


class AccountTable(BaseModel):
    """One ``[[accounts]]`` table: an account of today's API and where its password is stored."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$", description="name in logs and reports")
    username: str = Field(min_length=1, description="user name, usually an e-mail address")
    password_env: str | None = Field(None, min_length=1, description="variable that contains the password")
    password_file: Path | None = Field(None, description="file that contains the password")

    @model_validator(mode="after")
    def _check_password_source(self) -> Self:
        if (self.password_env is None) == (self.password_file is None):
            raise ValueError("expected one of password_env and password_file")
        return self
