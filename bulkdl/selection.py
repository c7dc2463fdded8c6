"""
Select containers and outputs by filters. All functions are pure: the current time is an argument.

Shards are assigned by rendezvous hashing of the container ID. Each shard selects its containers
independently, and a change from N to N + 1 shards moves only the containers of the new shard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import blake2b

from bulkdl.errors import ConfigError
from bulkdl.models import Container, Output, Reason
from bulkdl.settings import Settings, Shard, parsers
from bulkdl.source_spec import DEFAULT_SOURCE, SourceFilters, kind_names, source_spec

_MAX_LINES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class ContainerSelector:
    """A container that is selected by its ID. If *scope* is None, it can be in any scope."""

    scope: str | None
    container_id: str

    def __str__(self) -> str:
        return f"{self.scope}/{self.container_id}" if self.scope else self.container_id


@dataclass(frozen=True, slots=True)
class Selection:
    """
    The filters of a run. A container is selected if it matches all of them.

    Attributes:
        scopes: Scopes to list, such as projects or accounts; empty means all that have credentials.
        containers: Containers to select by ID; empty means all containers of the scopes.
        since_at: The earliest creation time.
        until_at: The latest creation time.
        statuses: Statuses in upper case with underscores; empty means all.
        name_glob: Pattern for the whole name, case-sensitive; a container without a name has the name "".
        since_last_s: Select containers since the last successful run, with this overlap. Older containers are
            selected only if an output is missing.
        reasons: Select only outputs whose last download ended with one of these reasons. The element None
            selects files that ``verify --repair`` rejected. By default, all missing outputs are selected.
    """

    scopes: tuple[str, ...] = ()
    containers: tuple[ContainerSelector, ...] = ()
    since_at: datetime | None = None
    until_at: datetime | None = None
    statuses: frozenset[str] = frozenset()
    name_glob: str | None = None
    kinds: frozenset[str] = field(default_factory=lambda: frozenset(kind_names()))
    source: str = DEFAULT_SOURCE
    filters: SourceFilters = field(default_factory=lambda: source_spec(DEFAULT_SOURCE).read_filters(None))
    shard: Shard | None = None
    since_last_s: float | None = None
    reasons: frozenset[Reason | None] | None = None
    # The content of *containers* as a set, because lists with tens of thousands of IDs occur.
    _refs: frozenset[ContainerSelector] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        refs = (
            ContainerSelector(ref.scope and ref.scope.lower(), ref.container_id.lower())
            for ref in self.containers
        )
        object.__setattr__(self, "_refs", frozenset(refs))

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        projects: Iterable[str] = (),
        jobs: Iterable[str | ContainerSelector] = (),
        collections: Iterable[str] = (),
        jobs_file_lines: Iterable[str] | None = None,
        jobs_file_name: str = "jobs file",
        source: str | None = None,
        now: datetime | None = None,
    ) -> Selection:
        """
        Create the selection of *settings*, restricted to *projects*, *jobs* and *collections*.

        A job is an ID or ``PROJECT/JOB``. Ages such as ``7d`` are relative to *now*.

        Args:
            collections: Deliveries, as IDs or ``WORKSPACE/ID``. Only the source ``storage`` has them.
            source: The source; by default that of *settings*, or ``jobs`` if they do not name exactly one.

        Raises:
            ConfigError: An ID is invalid.
        """
        now = now or datetime.now(UTC)
        named = settings.source_names
        source = source or (named[0] if len(named) == 1 else DEFAULT_SOURCE)
        filters = source_spec(source).read_filters(settings)
        filters, jobs = _filter_jobs(filters, list(jobs))
        refs = [job if isinstance(job, ContainerSelector) else _parse_job_flag(job) for job in jobs]
        refs += [_parse_collection_flag(text) for text in collections]
        if jobs_file_lines is not None:
            parse_id = parsers.parse_uuid if source_spec(source).has_uuids else parsers.check_id
            listed = parse_jobs_file(jobs_file_lines, jobs_file_name, parse_id=parse_id)
            refs += _check_not_empty(listed, jobs_file_name)
        return cls(
            scopes=tuple(dict.fromkeys(_parse_uuid_flag("--project", project) for project in projects)),
            containers=_drop_duplicates(refs),
            since_at=parsers.parse_time(settings.since, now)
            if settings.since not in (None, parsers.LAST)
            else None,
            since_last_s=settings.since_overlap if settings.since == parsers.LAST else None,
            until_at=(settings.until and parsers.parse_time(settings.until, now, end_of_day=True)) or None,
            statuses=frozenset(settings.status),
            name_glob=settings.name,
            kinds=settings.only,
            source=source,
            filters=filters,
            shard=settings.shard,
        )

    def with_watermark(self, watermark_at: datetime | None) -> Selection:
        """Return the selection with the start of the last successful run as its watermark."""
        if self.since_last_s is None or watermark_at is None:
            return self
        return replace(self, since_at=watermark_at - timedelta(seconds=self.since_last_s))

    @property
    def watermark_scope(self) -> str | None:
        """
        Return a hash of all filters except the times. Runs of one scope share a watermark.

        None if the run excludes containers for another reason. Such a run cannot set a watermark.
        """
        if self.containers or self.until_at or self.reasons is not None:
            return None
        if self.since_at is not None and self.since_last_s is None:
            return None
        own_kinds = source_spec(self.source).kind_names
        shared: dict[str, object] = {
            "scopes": sorted(self.scopes),
            "statuses": sorted(self.statuses),
            "name": self.name_glob,
            "kinds": sorted(self.kinds.intersection(own_kinds)),
            "shard": str(self.shard),
        }
        return blake2b(repr(self.filters.scope_values(shared)).encode(), digest_size=8).hexdigest()

    def matches(self, container: Container) -> bool:
        """Return whether *container* matches all filters."""
        return self.excluding_filter(container) is None

    def is_before_watermark(self, container: Container) -> bool:
        """Return whether only the watermark excludes *container*. It is selected if an output is missing."""
        return self.since_last_s is not None and self.excluding_filter(container) == "since"

    def may_match_when_finished(self, container: Container) -> bool:
        """Return whether only a status that is not final excludes *container*; a later run lists it again."""
        if container.is_final or not self.statuses or self.watermark_scope is None:
            return False
        return replace(self, statuses=frozenset()).matches(container) and not self.matches(container)

    def has_unwanted_final_status(self, container: Container) -> bool:
        """Return whether the final status of *container* excludes it."""
        return container.is_final and self.excluding_filter(container) == "status"

    def excluding_filter(self, container: Container) -> str | None:
        """Return the name of the first filter that excludes *container*; None if it is selected."""
        return self._excluding_id_filter(container) or self._excluding_value_filter(container)

    def _excluding_id_filter(self, container: Container) -> str | None:
        scope = container.ref.scope.lower()
        is_in_scope = not self._selects_scopes or scope in self.scopes
        if not is_in_scope and not self._has_ref(container, scope):
            return "scope"
        if self.containers and not self._has_ref(container, scope, None):
            return "container"
        return None

    def _excluding_value_filter(self, container: Container) -> str | None:
        if self.until_at is not None and container.created_at > self.until_at:
            return "until"
        if self.statuses and parsers.normalize_status(container.status) not in self.statuses:
            return "status"
        own_filter = self.filters.excluding_filter(container)
        if own_filter is not None:
            return own_filter
        if self.name_glob is not None and not fnmatchcase(container.name or "", self.name_glob):
            return "name"
        if self.shard is not None and not is_in_shard(container.ref.id, self.shard):
            return "shard"
        if self.since_at is not None and container.created_at < self.since_at:
            return "since"  # the last filter: see is_before_watermark
        return None

    def includes(self, output: Output) -> bool:
        """Return whether the kind of *output* is selected, and the filters of the source include it."""
        return output.kind in self.kinds and self.filters.includes(output)

    @property
    def wanted_kinds(self) -> frozenset[str]:
        """The selected kinds that can have selected outputs."""
        return self.filters.wanted_kinds(self.kinds)

    def includes_recorded(self, output: Output) -> bool:
        """Return whether the IDs and the kind of a recorded *output* are selected, see ``includes``."""
        scope, container_id = output.container.scope.lower(), output.container.id.lower()
        is_listed = not self.containers or bool(
            {ContainerSelector(scope, container_id), ContainerSelector(None, container_id)} & self._refs
        )
        is_in_scope = (
            not self._selects_scopes or scope in self.scopes or (bool(self.containers) and is_listed)
        )
        is_in_own_shard = self.shard is None or is_in_shard(container_id, self.shard)
        return is_listed and is_in_scope and is_in_own_shard and self.includes(output)

    @property
    def _selects_scopes(self) -> bool:
        """Whether ``scopes`` are the scopes of the selected containers, not accounts to list."""
        return bool(self.scopes) and source_spec(self.source).lists_scopes

    def _has_ref(self, container: Container, *scopes: str | None) -> bool:
        return any(ContainerSelector(scope, container.ref.id.lower()) in self._refs for scope in scopes)


def _filter_jobs(
    filters: SourceFilters, jobs: Sequence[str | ContainerSelector]
) -> tuple[SourceFilters, Sequence[str | ContainerSelector]]:
    """Move *jobs* to *filters* if the jobs of the source are not its containers; return what is left."""
    if not jobs or filters.with_job_ids(()) is None:
        return filters, jobs
    job_ids = [_parse_id_flag("--job", str(job)) for job in jobs]
    return filters.with_job_ids(job_ids) or filters, ()


SelectionBySource = Mapping[str, Selection]
"""The selections of a run: one for each of its sources."""


SelectionArgument = Selection | Sequence[Selection] | None
"""The selection of one source, those of several sources, or None: the selection of the settings."""


def group_by_source(selections: Sequence[Selection]) -> SelectionBySource:
    """
    Return *selections* by source.

    Raises:
        ConfigError: There is no selection, or a source has several.
    """
    by_source = {selection.source: selection for selection in selections}
    if len(by_source) != len(selections) or not by_source:
        raise ConfigError("selection", "expected at least one selection, and at most one of each source")
    return by_source


def select_everything(sources: Iterable[str]) -> SelectionBySource:
    """Return a selection without filters for each of *sources*."""
    return {
        source: Selection(source=source, filters=source_spec(source).read_filters(None)) for source in sources
    }


def includes_recorded(selections: SelectionBySource, output: Output) -> bool:
    """Return whether the selection of the source of a recorded *output* includes it."""
    selection = selections.get(output.container.source)
    return selection is not None and selection.includes_recorded(output)


def is_in_shard(container_id: str, shard: Shard) -> bool:
    """Return whether *shard* has the highest score for this container among all shards."""
    return find_shard(container_id, shard.count) == shard.index


def find_shard(container_id: str, count: int) -> int:
    """Return the number (from 0) of the shard of this container if there are *count* shards."""
    return max(range(count), key=lambda index: _score(container_id.lower(), index))


def _score(container_id: str, index: int) -> bytes:
    return blake2b(f"{container_id}#{index}".encode(), digest_size=8).digest()


def _drop_duplicates(refs: Sequence[ContainerSelector]) -> tuple[ContainerSelector, ...]:
    """Return each container once, in order. Drop a reference without scope if another one has the scope."""
    with_scope = {ref.container_id for ref in refs if ref.scope}
    return tuple(dict.fromkeys(ref for ref in refs if ref.scope or ref.container_id not in with_scope))


def parse_jobs_file(
    lines: Iterable[str], name: str, *, parse_id: Callable[[str], str] = parsers.parse_uuid
) -> list[ContainerSelector]:
    """
    Return the distinct containers in *lines*: one ``ID`` or ``SCOPE/ID`` per line.

    Empty lines and comments that start with ``#`` are ignored.

    Raises:
        ConfigError: Lines are invalid. The message lists them.
    """
    refs: dict[ContainerSelector, None] = {}
    invalid: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix("\ufeff").split("#", 1)[0].strip()
        if not text:
            continue
        ref = _parse_job_ref(text, parse_id)
        if ref is None:
            invalid.append(f"{name}:{number}: {text[:60]!r}")
        else:
            refs[ref] = None
    if invalid:
        raise ConfigError(name, _describe_invalid_lines(invalid))
    return list(refs)


def _check_not_empty(refs: list[ContainerSelector], name: str) -> list[ContainerSelector]:
    # A selection without IDs selects all containers, which an empty file does not request.
    if not refs:
        raise ConfigError(name, "contains no IDs; nothing was downloaded")
    return refs


def _describe_invalid_lines(lines: Sequence[str]) -> str:
    shown = ", ".join(lines[:_MAX_LINES_SHOWN])
    more = f" and {len(lines) - _MAX_LINES_SHOWN} more" if len(lines) > _MAX_LINES_SHOWN else ""
    return f"expected an ID or SCOPE/ID, got {shown}{more}; nothing was downloaded"


def _parse_job_ref(
    text: str, parse_id: Callable[[str], str] = parsers.parse_uuid
) -> ContainerSelector | None:
    scope, slash, container_id = text.rpartition("/")
    try:
        return ContainerSelector(parse_id(scope) if slash else None, parse_id(container_id))
    except ValueError:
        return None


def _parse_job_flag(text: str) -> ContainerSelector:
    ref = _parse_job_ref(text.strip())
    if ref is None:
        raise ConfigError("--job", f"{parsers.UUID_EXPECTED} or PROJECT/JOB, got {text[:60]!r}")
    return ref


def _parse_collection_flag(text: str) -> ContainerSelector:
    ref = _parse_job_ref(text.strip(), parsers.check_id)
    if ref is None:
        raise ConfigError("--collection", f"{parsers.ID_EXPECTED}, or WORKSPACE/ID, got {text[:60]!r}")
    return ref


def _parse_id_flag(flag: str, text: str) -> str:
    try:
        return parsers.parse_id(text)
    except ValueError as error:
        raise ConfigError(flag, f"{error}, got {text[:60]!r}") from None


def _parse_uuid_flag(flag: str, text: str) -> str:
    try:
        return parsers.parse_uuid(text)
    except ValueError as error:
        raise ConfigError(flag, f"{error}, got {text[:60]!r}") from None
