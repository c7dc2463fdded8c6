"""
Every setting, with its default, its bounds and one line on what it does.

A key is its flag with underscores: ``--speed-limit``, ``BULKDL_SPEED_LIMIT`` and ``speed_limit`` in
a file are one setting. Keys without a flag end in their unit. The descriptions here are the ones
that ``--help`` and ``config/example.toml`` show.
"""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from bulkdl.model import Durability, Kind, Level
from bulkdl.settings import parse
from bulkdl.settings.address import Address, address
from bulkdl.settings.names import Names
from bulkdl.settings.parse import Shard
from bulkdl.settings.proxy import Proxy, proxy
from bulkdl.settings.timetable import UNLIMITED, Timetable, timetable

UP42_HOST = "api.up42.com"
UP42_MAX_RATE = 100.0
MIB = 1024 * 1024
TIB = 1024 * 1024 * MIB

DurationS = Annotated[float, BeforeValidator(parse.duration_s)]
SizeBytes = Annotated[int, BeforeValidator(parse.size_bytes), Field(ge=0)]
Uuid = Annotated[str, BeforeValidator(parse.uuid)]
Workers = Annotated[int, Field(ge=1, le=256)]
Pool = Annotated[int | Literal["auto"], BeforeValidator(parse.pool)]
MaybeAddress = Annotated[
    Address | None, BeforeValidator(lambda value: value if value is None else address(value))
]
MaybeProxy = Annotated[
    Proxy | None,
    BeforeValidator(lambda value: value if value is None else proxy(value)),
    PlainSerializer(lambda value: value and str(value), when_used="json"),  # without credentials
]
MaybeShard = Annotated[
    Shard | None, BeforeValidator(lambda value: value if value is None else parse.shard(value))
]


class ProjectTable(BaseModel):
    """One ``[[project]]`` table: a project, and where its API key is to be had (never the key itself)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Uuid = Field(description="project id")
    api_key_env: str | None = Field(None, min_length=1, description="variable that holds the API key")
    api_key_file: Path | None = Field(None, description="file that holds the API key")

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("expected one of api_key_env and api_key_file, not both")
        return self


class Settings(BaseSettings):
    """
    What one invocation does, and how. Made directly, it takes its arguments and the defaults only;
    ``load_settings`` adds file, variables and flags.

    Raises:
        pydantic.ValidationError: A value is out of bounds; ``load_settings`` turns it into ConfigError.
    """

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="BULKDL_")

    # where from and where to
    allow_http: bool = Field(
        False, description="talk http:// to other hosts, in signed URLs and redirects too"
    )
    api_url: str = Field(f"https://{UP42_HOST}", description="UP42's API")
    token_url: str | None = Field(None, description="where tokens are had; by default api_url + /oauth/token")
    proxy: MaybeProxy = Field(
        None,
        description="HTTP proxy for all requests, or off; by default HTTPS_PROXY and HTTP_PROXY. NO_PROXY "
        "names hosts that need none",
    )
    output: Path | None = Field(None, description="directory that the outputs go to")
    project: tuple[ProjectTable, ...] = Field((), description="the projects and where their API keys are")

    # which jobs and outputs
    since: str | None = Field(
        None,
        description="jobs created at or after: ISO date or time, an age (36h, 7d), or last: the last run "
        "that left nothing to do",
    )
    overlap: DurationS = Field(
        2 * 86400.0, ge=0, description="seconds (2d) that --since last looks back behind that run's start"
    )
    until: str | None = Field(None, description="jobs created at or before: ISO date or time, or an age")
    status: Annotated[tuple[str, ...], BeforeValidator(parse.constants)] = Field(
        (), description="jobs with one of these statuses, such as SUCCEEDED"
    )
    mode: Annotated[str | None, BeforeValidator(parse.constant)] = Field(
        None, description="jobs run in this mode: DEFAULT or DRY_RUN"
    )
    name: str | None = Field(None, description="jobs whose name matches this glob")
    workflow: Annotated[str | None, BeforeValidator(lambda value: value and parse.uuid(value))] = Field(
        None, description="jobs of this workflow id"
    )
    only: Annotated[frozenset[Kind], BeforeValidator(parse.words)] = Field(
        frozenset(Kind), min_length=1, description="kinds of output: archive, quicklook, geojson"
    )
    level: Annotated[frozenset[Level], BeforeValidator(parse.words)] = Field(
        frozenset(Level), min_length=1, description="whose outputs: job, task"
    )
    shard: MaybeShard = Field(
        None,
        description="slice K/N of the jobs (K from 0) by a stable hash of their ids, or auto: "
        "JOB_COMPLETION_INDEX and BULKDL_SHARDS",
    )

    durability: Durability = Field(
        Durability.FULL,
        description="what a power cut may cost: full (nothing), batch (nothing; one sync for many files), "
        "none (what the system had not written yet)",
    )

    # pools and pace
    archives: Pool = Field("auto", description="archives fetched at a time; auto begins with 8, at most 32")
    quicklooks: Pool = Field(
        "auto", description="quicklooks fetched at a time; auto begins with 16, at most 64"
    )
    geojson: Pool = Field(
        "auto", description="GeoJSON files fetched at a time; auto begins with 16, at most 64"
    )
    connections: Annotated[int, Field(ge=1, le=16)] = Field(
        8, description="connections for one large archive, at most; 1 is off"
    )
    segment_bytes: SizeBytes = Field(
        64 * MIB, ge=MIB, description="bytes, size from which an archive may have several connections"
    )
    segment_below_bytes_per_s: SizeBytes = Field(
        100_000_000,
        description="bytes/s: while one connection brings more than that, a large archive gets no others; "
        "0 is no such limit",
    )
    enumerators: Workers = Field(16, description="jobs listed at a time")
    rate: float = Field(80.0, ge=0, allow_inf_nan=False, description="API requests a second; 0 is no limit")
    burst: int = Field(400, ge=1, le=500, description="API requests that may come at once after a pause")
    bwlimit: Annotated[Timetable, BeforeValidator(timetable)] = Field(
        UNLIMITED,
        description="bytes a second over all transfers (2M, off), or a timetable ('08:00,2M 19:00,off')",
    )
    speed_limit: SizeBytes = Field(
        1024, description="bytes a second below which a transfer is stalled; 0 is off"
    )
    speed_time: DurationS = Field(30.0, gt=0, description="seconds for which it must be that slow")
    connect_timeout_s: DurationS = Field(15.0, gt=0, description="seconds to wait for a connection, at most")
    headers_timeout_s: DurationS = Field(60.0, gt=0, description="seconds to wait for an answer to begin")

    # budgets: the rest is the next run's
    max_duration: DurationS = Field(
        0.0, description="seconds (6h) after which nothing new is begun; 0 is off"
    )
    max_transfer: SizeBytes = Field(0, description="bytes (500G) after which nothing new is begun; 0 is off")

    # trying again
    retries: int = Field(8, ge=1, le=1000, description="attempts in a row without progress before giving up")
    retry_base_s: DurationS = Field(1.0, ge=0, description="seconds, upper end of the first wait; it doubles")
    retry_cap_s: DurationS = Field(60.0, ge=0, description="seconds, upper end of any wait")
    retry_after_cap_s: DurationS = Field(
        300.0, ge=0, description="seconds, longest wait that a server can ask for"
    )

    # bounds
    archive_max_bytes: SizeBytes = Field(TIB, gt=0, description="bytes, largest archive")
    quicklook_max_bytes: SizeBytes = Field(64 * MIB, gt=0, description="bytes, largest quicklook")
    geojson_max_bytes: SizeBytes = Field(512 * MIB, gt=0, description="bytes, largest GeoJSON file")
    json_max_bytes: SizeBytes = Field(64 * MIB, gt=0, description="bytes, largest answer of the API")
    grace: DurationS = Field(
        20.0, ge=0, description="seconds from the first signal until what is in flight is stopped"
    )

    # what is seen of it
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto, console or json")
    verbose: int = Field(0, ge=-2, le=2, description="-1 warnings and up, 0 normal, 1 debug, 2 everything")
    progress: Literal["auto", "never"] = Field("auto", description="bars on a terminal: auto or never")

    http: MaybeAddress = Field(
        None, description="HOST:PORT for health, metrics and a live page; port 0 takes a free one"
    )
    metrics_file: Path | None = Field(None, description="metrics for node-exporter's textfile collector")

    names: Names = Field(default_factory=Names, description="file-name templates")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - this signature is pydantic-settings'
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: a library must not change with its caller's environment."""
        return (init_settings,)

    @property
    def token_endpoint(self) -> str:
        """Where tokens are had."""
        return self.token_url or f"{self.api_url}/oauth/token"

    @field_validator("api_url", "token_url")
    @classmethod
    def _is_trusted_url(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        return _checked_url(url, allow_http=bool(info.data.get("allow_http")))

    @field_validator("rate")
    @classmethod
    def _is_polite(cls, rate: float, info: ValidationInfo) -> float:
        host = urlsplit(info.data.get("api_url", "")).hostname
        if host == UP42_HOST and not 0 < rate <= UP42_MAX_RATE:
            raise ValueError(f"expected at most {UP42_MAX_RATE:g} requests a second with {UP42_HOST}")
        return rate

    @field_validator("until")
    @classmethod
    def _is_no_watermark(cls, text: str | None) -> str | None:
        if text is not None and text.strip() == parse.LAST:
            raise ValueError(parse.MOMENT_EXPECTED)
        return text

    @field_validator("since", "until")
    @classmethod
    def _is_moment(cls, text: str | None) -> str | None:
        if text is not None and text.strip() != parse.LAST:
            parse.moment_at(text, datetime.now(UTC))
        return text and text.strip()

    @field_validator("output", "metrics_file")
    @classmethod
    def _is_expanded(cls, path: Path | None) -> Path | None:
        return path and path.expanduser()


def _checked_url(url: str, *, allow_http: bool) -> str:
    try:
        parts = urlsplit(url.strip())
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError("expected a URL such as https://api.up42.com")
    if parts.username or parts.password:
        raise ValueError(
            "expected a URL without user name and password; credentials have variables of their own"
        )
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ValueError("expected https://; set allow_http = true only if you trust the network")
    return url.strip().rstrip("/")


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
