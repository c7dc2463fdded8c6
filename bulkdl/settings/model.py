"""
All settings, with default, bounds and description.

Rules for keys and values:

- A key is its flag with underscores. ``--speed-limit``, ``BULKDL_SPEED_LIMIT`` and ``speed_limit`` in a file
  are the same setting.
- A key does not contain a unit. The value contains it: durations are ``"30s"``, ``"5m"``, ``"6h"``, ``"7d"``;
  sizes are ``"500K"``, ``"64M"``, ``"1.5G"`` (multiples of 1024), ``"off"`` is 0. A plain number is seconds
  or bytes.
- In Python, a duration is a float in seconds and a size is an int in bytes.

``--help``, ``config/example.toml`` and the README show the descriptions in this file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from bulkdl.concurrency import DISK_THREADS, INSPECTION_THREADS, PROCESSING_THREADS
from bulkdl.errors import ConfigError
from bulkdl.models import Durability, UnpackMode
from bulkdl.settings import parsers
from bulkdl.settings.bandwidth_schedule import UNLIMITED, BandwidthSchedule, parse_bandwidth_schedule
from bulkdl.settings.field_types import (
    Concurrency,
    DailyTimes,
    DurationS,
    KindName,
    MaybeAddress,
    MaybeFile,
    MaybePath,
    MaybeProxy,
    MaybeShard,
    SizeBytes,
    Workers,
)
from bulkdl.settings.hosts import (
    DEFAULT_API_URL,
    UP42_HOSTS,
    UP42_MAX_RATE,
    Region,
    account_token_endpoint,
    check_url,
    region_api_url,
)
from bulkdl.settings.kinds import SHORTHANDS, KindTable, complete_kinds
from bulkdl.settings.levels import Level
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.settings.tables import AccountTable, NotifyTable, ObjectStoreTable, ProjectTable
from bulkdl.source_spec import AUTO, find_source, kind_names, kind_spec

MIB = 1024 * 1024


class Settings(BaseModel):
    """
    The settings of one invocation.

    Direct construction uses the arguments and the defaults only. It does not read the environment.
    ``load_settings`` adds the configuration file, the variables and the flags.

    Raises:
        pydantic.ValidationError: A value is invalid; ``load_settings`` converts it to ConfigError.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # source and destination
    source: str = Field(
        "auto",
        min_length=1,
        description="API to download from: jobs (projects and jobs), storage (assets and STAC), both "
        "(jobs,storage), or auto (jobs if a project is known, storage if an account is known; both if the "
        "config file contains accounts)",
    )
    allow_http: bool = Field(
        False, description="accept http:// URLs of other hosts, including signed URLs and redirects"
    )
    api_url: str = Field(DEFAULT_API_URL, description="base URL of the UP42 API")
    region: Region = Field(
        Region.EU, description="region of the account: eu or sa; selects the hosts unless --api-url is set"
    )
    auth_url: str | None = Field(
        None,
        description="base URL of the login service for accounts; by default that of the region, or the "
        "origin of --api-url if that is not a UP42 host",
    )
    client_id: str = Field(
        "up42-api", min_length=1, description="OAuth client ID of the login with an account"
    )
    token_url: str | None = Field(
        None, description="URL of the token endpoint for projects; by default api_url + /oauth/token"
    )
    proxy: MaybeProxy = Field(
        None,
        description="HTTP proxy for all requests, or off; by default HTTPS_PROXY and HTTP_PROXY. NO_PROXY "
        "lists the hosts for direct connections",
    )
    output: Annotated[
        Path | str | None,
        BeforeValidator(lambda value: value if value is None else parsers.parse_destination(value)),
    ] = Field(None, description="output directory, or URL of a destination")
    state: MaybePath = Field(
        None,
        description="local directory for the ledger, partial files and reports; by default .bulkdl in the "
        "output directory",
    )
    scratch_limit: SizeBytes = Field(
        0, description="maximum disk usage of partial files; off is the free space of the disk"
    )
    projects: tuple[ProjectTable, ...] = Field((), description="projects and where their API keys are stored")
    accounts: tuple[AccountTable, ...] = Field(
        (), description="accounts and where their passwords are stored"
    )

    # selection
    since: str | None = Field(
        None,
        description="jobs and deliveries created at or after this time: ISO date or time, an age (36h, 7d), "
        "or last (start of the last complete run)",
    )
    since_overlap: DurationS = Field(
        2 * 86400.0, ge=0, description="how far --since last looks back before the start of that run"
    )
    until: str | None = Field(
        None, description="jobs and deliveries created at or before this time: ISO date or time, or an age"
    )
    status: Annotated[tuple[str, ...], BeforeValidator(parsers.normalize_statuses)] = Field(
        (), description="jobs and deliveries with one of these statuses, such as SUCCEEDED"
    )
    mode: Annotated[str | None, BeforeValidator(parsers.normalize_status)] = Field(
        None, description="source jobs: jobs of this mode, DEFAULT or DRY_RUN"
    )
    name: str | None = Field(None, description="jobs and deliveries whose name matches this glob pattern")
    workflow: Annotated[str | None, BeforeValidator(lambda value: value and parsers.parse_uuid(value))] = (
        Field(None, description="source jobs: jobs of the workflow with this ID")
    )
    workspace: Annotated[tuple[str, ...], BeforeValidator(parsers.parse_ids)] = Field(
        (), description="source storage: deliveries of these workspaces"
    )
    order: Annotated[tuple[str, ...], BeforeValidator(parsers.parse_ids)] = Field(
        (), description="source storage: deliveries of these orders"
    )
    only: Annotated[frozenset[KindName], BeforeValidator(parsers.split_list)] = Field(
        default_factory=lambda: frozenset(kind_names()),
        min_length=1,
        description="kinds of outputs: archive, quicklook, geojson (source jobs), original, asset, preview, "
        "metadata (source storage)",
    )
    scope: Annotated[frozenset[Level], BeforeValidator(parsers.split_list)] = Field(
        frozenset(Level),
        min_length=1,
        description="source jobs: outputs of jobs, of tasks, or both (job, task)",
    )
    shard: MaybeShard = Field(
        None,
        description="slice K of N of the jobs and deliveries (K starts at 0), chosen by a stable hash of the "
        "ID; auto reads JOB_COMPLETION_INDEX and BULKDL_SHARDS",
    )

    unpack: UnpackMode = Field(
        UnpackMode.OFF,
        description="unpack each archive into a folder next to it: off, keep (the archive), or replace "
        "(delete the archive at the end of a complete run)",
    )
    catalog: bool = Field(
        False,
        description="write a catalogue of all outputs (index.html and the folder catalog) at the end of a "
        "run; see bulkdl catalog",
    )
    processors: Annotated[tuple[str, ...], BeforeValidator(parsers.split_list)] = Field(
        (), description="names of the installed processors that process completed outputs"
    )
    source_settings: dict[str, dict[str, Any]] = Field(
        {}, description="one table of settings for each source of another distribution"
    )
    processor_settings: dict[str, dict[str, Any]] = Field(
        {}, description="one table of settings for each processor"
    )

    durability: Durability = Field(
        Durability.FULL,
        description="when files are synced to disk: full (each file), batch (one sync for several files), "
        "none (not at all; a power failure can lose recent files)",
    )

    # concurrency and limits
    archive_concurrency: Concurrency = Field(
        "auto", description="concurrent archive downloads; auto starts with 8 and adapts up to 32"
    )
    quicklook_concurrency: Concurrency = Field(
        "auto", description="concurrent quicklook downloads; auto starts with 16 and adapts up to 64"
    )
    geojson_concurrency: Concurrency = Field(
        "auto", description="concurrent GeoJSON downloads; auto starts with 16 and adapts up to 64"
    )
    connections: Annotated[int, Field(ge=1, le=16)] = Field(
        8, description="maximum number of connections for one large archive; 1 disables segments"
    )
    segment_min_size: SizeBytes = Field(
        64 * MIB, ge=MIB, description="minimum size of an archive that is downloaded in segments"
    )
    segment_if_slower_than: SizeBytes = Field(
        96 * MIB,
        description="download an archive in segments only if one connection is slower than this "
        "(bytes per second); off: always",
    )
    list_concurrency: Workers = Field(
        16, description="number of jobs or deliveries of each source whose outputs are listed concurrently"
    )
    disk_threads: Workers = Field(DISK_THREADS, description="number of threads for writing and syncing files")
    inspection_threads: Workers = Field(
        INSPECTION_THREADS, description="number of threads that check archives without a checksum"
    )
    processing_threads: Workers = Field(
        PROCESSING_THREADS, description="number of outputs that the processors process concurrently"
    )
    rate: float = Field(
        80.0,
        ge=0,
        allow_inf_nan=False,
        description="maximum requests per second to one API origin; UP42 allows 100. "
        "0 is unlimited (not for UP42)",
    )
    burst: int = Field(
        400, ge=1, le=500, description="requests to one API origin that can be sent at once after a pause"
    )
    bwlimit: Annotated[BandwidthSchedule, BeforeValidator(parse_bandwidth_schedule)] = Field(
        UNLIMITED,
        description="maximum bytes per second of all downloads together, and of all uploads (2M, off), or a "
        "schedule in local time ('08:00,2M 19:00,off')",
    )
    speed_limit: SizeBytes = Field(
        1024, description="minimum bytes per second; a slower transfer counts as stalled and is retried"
    )
    speed_time: DurationS = Field(
        30.0, gt=0, description="how long a transfer can be slower than --speed-limit"
    )
    connect_timeout: DurationS = Field(15.0, gt=0, description="maximum time to open a connection")
    headers_timeout: DurationS = Field(
        60.0, gt=0, description="maximum time until the response headers arrive"
    )

    # uploads to an object store
    uploads: Concurrency = Field(
        "auto", description="concurrent uploads to an object store; auto is as many as the memory allows"
    )
    upload_memory: SizeBytes = Field(
        256 * MIB, ge=16 * MIB, description="memory that all uploads to an object store share"
    )
    verify_uploads: Literal["size", "read", "none"] = Field(
        "size", description="check after an upload: size (and version), read (the content), or none"
    )
    lease: Literal["bucket", "none"] = Field(
        "bucket", description="what keeps the runs of two machines apart: bucket (a lease there) or none"
    )
    lease_time: DurationS = Field(60.0, ge=1, le=3600, description="validity of a lease after its renewal")
    snapshot_every: DurationS = Field(300.0, ge=1, description="time between two snapshots in the bucket")
    object_store: ObjectStoreTable = Field(ObjectStoreTable(), description="how to reach an object store")

    # budgets of one run
    max_duration: DurationS = Field(
        0.0, description="start no new downloads after this time (6h); 0 is unlimited"
    )
    max_transfer: SizeBytes = Field(
        0, description="start no new downloads after this amount of data (500G); off is unlimited"
    )

    # retry
    retries: int = Field(
        7,
        ge=0,
        le=1000,
        description="retries after the first attempt; an attempt that received data resets the counter",
    )
    retry_base_delay: DurationS = Field(
        1.0, ge=0, description="maximum delay before the first retry; it doubles with every retry"
    )
    retry_max_delay: DurationS = Field(60.0, ge=0, description="maximum delay before a retry")
    retry_after_max: DurationS = Field(
        300.0, ge=0, description="maximum delay that a server can request with Retry-After"
    )

    recheck_absent_for: DurationS = Field(
        7 * 86400.0,
        ge=0,
        description="time (7d) after the end of a job or delivery in which runs request outputs again that "
        "were not available; 0 is never",
    )

    # bounds
    archive_max_size: SizeBytes = Field(
        default_factory=lambda: kind_spec("archive").max_size_bytes,
        gt=0,
        description="maximum size of an archive",
    )
    quicklook_max_size: SizeBytes = Field(
        default_factory=lambda: kind_spec("quicklook").max_size_bytes,
        gt=0,
        description="maximum size of a quicklook",
    )
    geojson_max_size: SizeBytes = Field(
        default_factory=lambda: kind_spec("geojson").max_size_bytes,
        gt=0,
        description="maximum size of a GeoJSON file",
    )
    api_response_max_size: SizeBytes = Field(
        64 * MIB, gt=0, description="maximum size of a JSON response of the API"
    )
    shutdown_timeout: DurationS = Field(
        20.0, ge=0, description="time that running downloads have to finish after the first signal"
    )

    # monitoring
    log_format: Literal["auto", "console", "json"] = Field(
        "auto",
        description="format of log messages on stderr: console, json, or auto (console on a terminal, "
        "otherwise json)",
    )
    verbose: int = Field(
        0, ge=-2, le=2, description="log level: -2 errors, -1 warnings, 0 normal, 1 debug, 2 everything"
    )
    progress: Literal["auto", "never"] = Field(
        "auto", description="progress display on a terminal: auto or never"
    )
    listen: MaybeAddress = Field(
        None, description="serve status page, metrics and health checks at HOST:PORT; port 0 is a free port"
    )
    metrics_file: MaybeFile = Field(
        None, description="write metrics to this file for the node-exporter textfile collector"
    )

    # service
    every: DurationS = Field(
        3600.0, ge=1, description="time from the start of a run to the start of the next one"
    )
    at: DailyTimes = Field(
        (), description="start runs only at these times of day (01:30, or 01:30,13:30; local time)"
    )
    webhook_secret_file: MaybePath = Field(
        None, description="file with the secret of the webhooks, which signs their events"
    )
    allow_unsigned_webhooks: bool = Field(
        False, description="accept events without a secret on an address that is not loopback"
    )
    notify: NotifyTable = Field(NotifyTable(), description="what receives the report at the end of a run")

    kinds: dict[KindName, KindTable] = Field(
        default_factory=dict,
        description="one table for each kind of outputs; complete, even if only some keys are given",
    )
    path_templates: PathTemplates = Field(default_factory=PathTemplates, description="paths of the outputs")

    @model_validator(mode="after")
    def _complete_kinds(self) -> Self:
        self.__dict__["kinds"] = complete_kinds(self.kinds, self.__dict__, self.model_fields_set)
        for (kind, name), shorthand in SHORTHANDS.items():
            self.__dict__[shorthand] = getattr(self.kinds[kind], name)
        return self

    @property
    def source_names(self) -> tuple[str, ...]:
        """The names of the sources; empty for ``auto``."""
        return () if self.source == AUTO else tuple(self.source.split(","))

    @property
    def enabled_processors(self) -> tuple[str, ...]:
        """The names of the processors to use; ``unpack`` enables the one of the same name."""
        return (*(["unpack"] if self.unpack is not UnpackMode.OFF else []), *self.processors)

    def require_output(self) -> Path | str:
        """
        Return the output directory, or the URL of the destination.

        Raises:
            ConfigError: It is not set.
        """
        if self.output is None:
            raise ConfigError("--output", "is missing; name the directory for the outputs")
        return self.output

    @property
    def token_endpoint(self) -> str:
        """URL of the token endpoint."""
        return self.token_url or f"{self.api_url}/oauth/token"

    @property
    def account_api_url(self) -> str:
        """Base URL of the API of the account: that of the region, unless another URL is set."""
        return region_api_url(self.region) if self.api_url == DEFAULT_API_URL else self.api_url

    @property
    def account_token_endpoint(self) -> str:
        """URL of the token endpoint for account credentials."""
        return account_token_endpoint(self.account_api_url, self.auth_url)

    @field_validator("api_url", "auth_url", "token_url")
    @classmethod
    def _check_urls(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        return check_url(url, allow_http=bool(info.data.get("allow_http")))

    @field_validator("source")
    @classmethod
    def _check_source(cls, name: str) -> str:
        # The kinds of another distribution are registered before the other settings are checked.
        if name == AUTO:
            return name
        names = [find_source(part).name for part in name.replace(",", " ").split()]
        if not names:
            raise ValueError("expected the name of a source")
        return ",".join(dict.fromkeys(names))

    @field_validator("rate")
    @classmethod
    def _check_rate(cls, rate: float, info: ValidationInfo) -> float:
        host = urlsplit(info.data.get("api_url", "")).hostname
        if host in UP42_HOSTS and not 0 < rate <= UP42_MAX_RATE:
            raise ValueError(f"expected at most {UP42_MAX_RATE:g} requests per second for {host}")
        return rate

    @field_validator("until")
    @classmethod
    def _reject_last(cls, text: str | None) -> str | None:
        if text is not None and text.strip() == parsers.LAST:
            raise ValueError(parsers.TIME_EXPECTED)
        return text

    @field_validator("since", "until")
    @classmethod
    def _check_time(cls, text: str | None) -> str | None:
        if text is not None and text.strip() != parsers.LAST:
            parsers.parse_time(text, datetime.now(UTC))
        return text and text.strip()
