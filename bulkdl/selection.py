"""
Which jobs and which of their outputs a run is about. Pure: the moment "now" is an argument.

Sharding is rendezvous hashing of the job id: every pod finds its jobs without asking another, and
going from N to N + 1 shards moves only the jobs that the new shard takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from hashlib import blake2b

from bulkdl.errors import ConfigError
from bulkdl.models import Job, Kind, Level, Output, Reason
from bulkdl.settings import Settings, Shard, parsers

_BAD_LINES_SHOWN = 10


@dataclass(frozen=True, slots=True)
class JobRef:
    """A job that was asked for by id; *project_id* None: whichever project has it."""

    project_id: str | None
    job_id: str

    def __str__(self) -> str:
        return f"{self.project_id}/{self.job_id}" if self.project_id else self.job_id


@dataclass(frozen=True, slots=True)
class Selection:
    """
    Filters, all of which must hold.

    Attributes:
        project_ids: Projects to list; empty means every project there are credentials for.
        jobs: Jobs asked for by id; empty means every job of the projects.
        since_at: First moment of creation that counts.
        until_at: Last moment of creation that counts.
        statuses: Upper case with underscores; empty means any.
        name_glob: Matched against the whole name, case and all; a job without a name has the name "".
        since_last_s: Jobs since the last run that left nothing to do, with this overlap; older ones only
            where something of them is still missing.
        reasons: Only outputs whose last transfer ended for one of these; None among them stands for
            files that ``verify --repair`` has rejected. By default (no set at all) every missing output.
    """

    project_ids: tuple[str, ...] = ()
    jobs: tuple[JobRef, ...] = ()
    since_at: datetime | None = None
    until_at: datetime | None = None
    statuses: frozenset[str] = frozenset()
    mode: str | None = None
    name_glob: str | None = None
    workflow_id: str | None = None
    kinds: frozenset[Kind] = frozenset(Kind)
    levels: frozenset[Level] = frozenset(Level)
    shard: Shard | None = None
    since_last_s: float | None = None
    reasons: frozenset[Reason | None] | None = None
    # The same as *jobs*, for looking up: lists of tens of thousands are real.
    _refs: frozenset[JobRef] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_refs", frozenset(self.jobs))

    @classmethod
    def of(
        cls,
        settings: Settings,
        *,
        projects: Iterable[str] = (),
        jobs: Iterable[str | JobRef] = (),
        jobs_file_lines: Iterable[str] | None = None,
        jobs_file_name: str = "jobs file",
        now: datetime | None = None,
    ) -> Selection:
        """
        The selection that *settings* describe, narrowed to the *projects* and *jobs* named.

        A job is an id or ``PROJECT/JOB``; ages such as ``7d`` count from *now*.

        Raises:
            ConfigError: Something that should be an id is none.
        """
        now = now or datetime.now(UTC)
        refs = [job if isinstance(job, JobRef) else _flag_job(job) for job in jobs]
        if jobs_file_lines is not None:
            refs += _some(parse_jobs_file(jobs_file_lines, jobs_file_name), jobs_file_name)
        return cls(
            project_ids=tuple(dict.fromkeys(_flag_uuid("--project", project) for project in projects)),
            jobs=_distinct(refs),
            since_at=parsers.parse_time(settings.since, now)
            if settings.since not in (None, parsers.LAST)
            else None,
            since_last_s=settings.since_overlap if settings.since == parsers.LAST else None,
            until_at=(settings.until and parsers.parse_time(settings.until, now, end_of_day=True)) or None,
            statuses=frozenset(settings.status),
            mode=settings.mode,
            name_glob=settings.name,
            workflow_id=settings.workflow,
            kinds=settings.only,
            levels=settings.scope,
            shard=settings.shard,
        )

    def with_watermark(self, watermark_at: datetime | None) -> Selection:
        """The selection with its watermark filled in: when the last run without failures began."""
        if self.since_last_s is None or watermark_at is None:
            return self
        return replace(self, since_at=watermark_at - timedelta(seconds=self.since_last_s))

    @property
    def scope(self) -> str | None:
        """
        A mark of everything but the moment: runs of one scope share a watermark.

        None for a run that leaves some jobs out for another reason, and so can be no watermark.
        """
        if self.jobs or self.until_at or self.reasons is not None:
            return None
        if self.since_at is not None and self.since_last_s is None:
            return None
        parts = [
            sorted(self.project_ids),
            sorted(self.statuses),
            self.mode,
            self.name_glob,
            self.workflow_id,
            sorted(self.kinds),
            sorted(self.levels),
            str(self.shard),
        ]
        return blake2b(repr(parts).encode(), digest_size=8).hexdigest()

    def matches(self, job: Job) -> bool:
        """Whether *job* is one of those."""
        return self.excluding_filter(job) is None

    def is_before_watermark(self, job: Job) -> bool:
        """Whether *job* is left out by the watermark alone: it counts if something of it is missing."""
        return self.since_last_s is not None and self.excluding_filter(job) == "since"

    def may_match_when_finished(self, job: Job) -> bool:
        """Whether *job* is left out by a status that it will not keep: no watermark may pass it by."""
        if job.finished or not self.statuses or self.scope is None:
            return False
        return replace(self, statuses=frozenset()).matches(job) and not self.matches(job)

    def has_unwanted_final_status(self, job: Job) -> bool:
        """Whether *job* was left out by its status, and will keep that."""
        return job.finished and self.excluding_filter(job) == "status"

    def excluding_filter(self, job: Job) -> str | None:
        """The first filter that leaves *job* out, by its flag's name; None when it is in."""
        project_id = job.project_id.lower()
        in_project = not self.project_ids or project_id in self.project_ids
        checks = {
            "project": in_project or self._names(job, project_id),
            "job": not self.jobs or self._names(job, project_id, None),
            "until": self.until_at is None or job.created_at <= self.until_at,
            "status": not self.statuses or parsers.normalize_status(job.status) in self.statuses,
            "mode": self.mode is None or parsers.normalize_status(job.mode) == self.mode,
            "name": self.name_glob is None or fnmatchcase(job.name or "", self.name_glob),
            "workflow": self.workflow_id is None or (job.workflow_id or "").lower() == self.workflow_id,
            "shard": self.shard is None or in_shard(job.id, self.shard),
            "since": self.since_at is None or job.created_at >= self.since_at,  # last: see is_overdue
        }
        return next((flag for flag, holds in checks.items() if not holds), None)

    def wants(self, output: Output) -> bool:
        """Whether *output* of a job that matches is of a kind and level asked for."""
        return output.kind in self.kinds and output.level in self.levels

    def _names(self, job: Job, *project_ids: str | None) -> bool:
        return any(JobRef(project_id, job.id.lower()) in self._refs for project_id in project_ids)


def in_shard(job_id: str, shard: Shard) -> bool:
    """Whether *shard* has the highest score for this job among all shards."""
    return shard_of(job_id, shard.count) == shard.index


def shard_of(job_id: str, count: int) -> int:
    """The shard (from 0) that has this job when there are *count*."""
    return max(range(count), key=lambda index: _score(job_id.lower(), index))


def _score(job_id: str, index: int) -> bytes:
    return blake2b(f"{job_id}#{index}".encode(), digest_size=8).digest()


def _distinct(refs: Sequence[JobRef]) -> tuple[JobRef, ...]:
    """Each job once, in the order given; one that is named with its project need not be looked for."""
    placed = {ref.job_id for ref in refs if ref.project_id}
    return tuple(dict.fromkeys(ref for ref in refs if ref.project_id or ref.job_id not in placed))


def parse_jobs_file(lines: Iterable[str], name: str) -> list[JobRef]:
    """
    The jobs in *lines*: one ``JOB`` or ``PROJECT/JOB`` a line, ``#`` comments, blank lines; no duplicates.

    Raises:
        ConfigError: Some lines are rubbish; it lists them.
    """
    refs: dict[JobRef, None] = {}
    bad: list[str] = []
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix("\ufeff").split("#", 1)[0].strip()
        if not text:
            continue
        ref = _job_ref(text)
        if ref is None:
            bad.append(f"{name}:{number}: {text[:60]!r}")
        else:
            refs[ref] = None
    if bad:
        raise ConfigError(name, _bad_lines(bad))
    return list(refs)


def _some(refs: list[JobRef], name: str) -> list[JobRef]:
    # No jobs in a selection means all of them, which is the last thing that an empty list asks for.
    if not refs:
        raise ConfigError(name, "names no job; nothing was fetched")
    return refs


def _bad_lines(bad: Sequence[str]) -> str:
    shown = ", ".join(bad[:_BAD_LINES_SHOWN])
    more = f" and {len(bad) - _BAD_LINES_SHOWN} more" if len(bad) > _BAD_LINES_SHOWN else ""
    return f"expected a job id or PROJECT/JOB, got {shown}{more}; nothing was fetched"


def _job_ref(text: str) -> JobRef | None:
    project, slash, job = text.rpartition("/")
    try:
        return JobRef(parsers.parse_uuid(project) if slash else None, parsers.parse_uuid(job))
    except ValueError:
        return None


def _flag_job(text: str) -> JobRef:
    ref = _job_ref(text.strip())
    if ref is None:
        raise ConfigError("--job", f"{parsers.UUID_EXPECTED} or PROJECT/JOB, got {text[:60]!r}")
    return ref


def _flag_uuid(flag: str, text: str) -> str:
    try:
        return parsers.parse_uuid(text)
    except ValueError as error:
        raise ConfigError(flag, f"{error}, got {text[:60]!r}") from None
