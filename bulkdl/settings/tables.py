"""The tables of projects, accounts and notifications in a config file. They never contain a secret."""

from __future__ import annotations

from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

from bulkdl.settings.field_types import DurationS, Uuid
from bulkdl.settings.hosts import check_secret_url


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


class ObjectStoreTable(BaseModel):
    """
    The ``[object_store]`` table: how to reach an object store.

    Credentials are read from the variables and files of the provider only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    endpoint: str | None = Field(None, description="URL of a store that is not that of the provider")
    region: str | None = Field(
        None, pattern=r"^[A-Za-z0-9-]{1,64}$", description="region of the bucket; only for S3"
    )
    ca_file: Path | None = Field(
        None, description="PEM file with certificates to trust in addition to those of the system"
    )
    path_style: bool | None = Field(
        None, description="whether the bucket is in the path of a URL, not in its host; only for S3"
    )
    allow_http: bool = Field(False, description="accept an endpoint with http:// that is not on this machine")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        parts = urlsplit(url or "https://host")
        if parts.username is not None or parts.password is not None:
            raise ValueError("expected a URL without user name and password")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("expected a URL like https://store.example.com")
        return url and url.rstrip("/")

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.model_dump(exclude_defaults=True).items())


class NotifyTable(BaseModel):
    """
    The ``[notify]`` table: a command and a URL that receive the report at the end of a run.

    The URL is a secret, because the path of many webhooks is one. ``str`` and ``repr`` show its host only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    command: tuple[str, ...] = Field(
        (), repr=False, description="program and arguments; the report is its standard input"
    )
    url: SecretStr | None = Field(None, description="URL that receives the report with POST")
    header: str = Field(
        "Authorization",
        pattern=r"^[A-Za-z0-9-]{1,64}$",
        description="name of the header whose value is in header_env or header_file",
    )
    header_env: str | None = Field(
        None, min_length=1, description="variable that contains the value of the header"
    )
    header_file: Path | None = Field(None, description="file that contains the value of the header")
    allow_http: bool = Field(False, description="accept a URL with http:// that is not on this machine")
    timeout: DurationS = Field(30.0, gt=0, le=3600, description="time limit of the command and of the POST")

    @property
    def is_enabled(self) -> bool:
        """Whether the table names a receiver of reports."""
        return bool(self.command) or self.url is not None

    def __str__(self) -> str:
        parts = [self.command[0]] if self.command else []
        if self.url is not None:
            url = urlsplit(self.url.get_secret_value())
            parts.append(f"{url.scheme}://{url.netloc}/***")
        return ",".join(parts)

    @field_validator("command")
    @classmethod
    def _check_command(cls, command: tuple[str, ...]) -> tuple[str, ...]:
        if any("\0" in part for part in command) or (command and not command[0].strip()):
            raise ValueError("expected a list of a program and its arguments")
        return command

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        if self.header_env is not None and self.header_file is not None:
            raise ValueError("expected one of header_env and header_file, not both")
        if self.url is None and (self.header_env is not None or self.header_file is not None):
            raise ValueError("expected url, because header_env or header_file is set")
        if self.url is not None:
            check_secret_url(self.url.get_secret_value(), allow_http=self.allow_http)
        return self
