"""
The static properties of sources and of the kinds of their outputs.

The code that handles outputs of any source uses their ``KindSpec`` and does not compare kinds. The
specification of a source needs neither credentials nor the code of the source.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any, BinaryIO, Protocol

from bulkdl.extensions import extension_names, load_extension
from bulkdl.models import Container, ContainerRef, Output

HEAD_BYTES = 512
"""Number of bytes that ``ContentChecks.check_head`` receives, if the output has so many."""

ERROR_PAGE_TYPES = frozenset(
    {"text/html", "text/xml", "application/xml", "application/json", "application/problem+json"}
)
"""Content types of error pages, for kinds that never have such content."""

# Modules with a SPEC. They are imported on first use, because sources are a higher layer.
_BUILT_IN = ("bulkdl.sources.up42_jobs.spec", "bulkdl.sources.up42_storage.spec")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_SHORT_ID = 8

GROUP = "bulkdl.sources"
"""The entry point group of sources. Each entry point names a ``SourceType``, which has a ``spec``."""


class ContentChecks(Protocol):
    """Checks of the content of one kind. All methods can run in any thread."""

    def check_head(self, head: bytes, content_type: str, *, has_digest: bool) -> str:
        """
        Accept or reject a body by its first bytes, before any of them is stored.

        Args:
            head: The first ``HEAD_BYTES`` bytes, or all if there are fewer.
            has_digest: Whether the server sent a checksum of the whole body.

        Returns:
            The suffix for the file name; one of ``KindSpec.suffixes``.

        Raises:
            ContentRejectedError: The body is not of this kind.
        """

    def needs_validation(self, *, has_digest: bool) -> bool:
        """Return whether ``validate`` must read the whole body."""

    def is_cheap(self, size_bytes: int) -> bool:
        """Return whether ``validate`` is faster than a change of thread."""

    def validate(self, stream: BinaryIO, size_bytes: int) -> None:
        """
        Check the structure of a body; blocks.

        Raises:
            TransferError: The structure is invalid or truncated.
        """


@dataclass(frozen=True, slots=True)
class AutoConcurrency:
    """The number of concurrent downloads without a setting: at the start of a run, and at most."""

    start: int
    maximum: int


@dataclass(frozen=True, slots=True)
class KindSpec:
    """
    The properties of all outputs of one kind.

    Attributes:
        name: The kind in settings, reports, metrics and the ledger. No other source uses it.
        label: The name of one output in messages, with its article: ``an archive``.
        concurrency: The limits of its pool if the setting is ``auto``.
        max_size_bytes: Default of the maximum size of one output.
        load_checks: Returns the checks of the content of a file, given its name. It imports their module on
            first use.
        large_concurrency: The limits of a pool for outputs whose response announces a large size, if the
            setting is ``auto``. The sizes of such a kind are not known earlier. None: there is no such pool.
        is_large: Whether outputs can take long. They can use several connections and several segments, their
            pool is measured in bytes instead of outputs, and a drained run does not wait for all of them.
        has_names: Whether the server chooses the name of each output. An output without a name then stands
            for the list of the outputs of its parent.
        suffixes: The possible suffixes of a file name; the content decides.
        error_page_types: Content types that show that the body is an error page.
        rejects_encoding: Whether a Content-Encoding that was not requested is an error, because the stored
            bytes are wanted.
        is_in_storage: Whether outputs that are not large are downloaded from the storage, too.
    """

    name: str
    label: str
    concurrency: AutoConcurrency
    max_size_bytes: int
    load_checks: Callable[[str], ContentChecks]
    is_large: bool = False
    has_names: bool = False
    suffixes: tuple[str, ...] = ("",)
    error_page_types: frozenset[str] = ERROR_PAGE_TYPES
    rejects_encoding: bool = False
    large_concurrency: AutoConcurrency | None = None
    is_in_storage: bool = False


class SourceFilters(Protocol):
    """The filters of one source in a selection, in addition to those of all sources. Immutable."""

    def excluding_filter(self, container: Container) -> str | None:
        """Return the flag of the first filter that excludes *container*; None if there is none."""

    def includes(self, output: Output) -> bool:
        """Return whether *output* of a selected container is selected."""

    def wanted_kinds(self, kinds: frozenset[str]) -> frozenset[str]:
        """Return those of *kinds* that have an output which ``includes`` accepts."""

    def with_job_ids(self, job_ids: Sequence[str]) -> SourceFilters | None:
        """Return filters that also select by the producing jobs; None if a container is a job."""

    def scope_values(self, shared: Mapping[str, object]) -> list[object]:
        """
        Return the values that must be equal for two runs to share a watermark.

        Args:
            shared: The values of the filters of all sources, in a fixed order.
        """

    def as_dict(self) -> dict[str, object]:
        """Return the filters for the run report."""


class NoFilters:
    """The filters of a source without filters of its own. They select everything."""

    def excluding_filter(self, container: Container) -> str | None:
        del container
        return None

    def includes(self, output: Output) -> bool:
        del output
        return True

    def wanted_kinds(self, kinds: frozenset[str]) -> frozenset[str]:
        return kinds

    def with_job_ids(self, job_ids: Sequence[str]) -> SourceFilters | None:
        del job_ids
        return None

    def scope_values(self, shared: Mapping[str, object]) -> list[object]:
        return list(shared.values())

    def as_dict(self) -> dict[str, object]:
        return {}


NO_FILTERS = NoFilters()
DEFAULT_SOURCE = "jobs"
AUTO = "auto"
"""The setting ``source`` of a run that chooses the source by its credentials."""


def _no_filters(settings: Any) -> SourceFilters:
    del settings
    return NO_FILTERS


@dataclass(frozen=True, slots=True)
class OutputLabels:
    """
    The names of the fields of an output in logs and reports, such as ``project_id``.

    Attributes:
        listed: What the source lists, if it does not list scopes: the element of ``Source.scopes``.
        plural: The word for several containers, such as ``deliveries``; by default the singular with an s.
    """

    scope: str
    container: str
    parent: str
    listed: str = ""
    plural: str = ""

    def describe_scope(self, scope: str) -> str:
        """Return the name of what is listed in messages, such as ``project 5f0c``."""
        return f"{self.listed or _noun(self.scope)} {scope}"

    def describe_container(self, scope: str, container_id: str) -> str:
        """Return the name of a container in messages, such as ``job 0236 of project 5f0c``."""
        return f"{_noun(self.container)} {container_id} of {self.describe_scope(scope)}"

    def describe_selected(self, container: str) -> str:
        """Return the name of a container that the user selected, such as ``job 0236``."""
        return f"{_noun(self.container)} {container}"

    def describe_parts(self, output: Output) -> str:
        """Return a short name of the container and the parent, such as ``job 02364a1c task 9f8e7d6c``."""
        part = f" {_noun(self.parent)} {output.parent[:_SHORT_ID]}" if output.parent else ""
        return f"{_noun(self.container)} {output.container.id[:_SHORT_ID]}{part}"

    @property
    def containers(self) -> str:
        """The word for several containers, such as ``jobs``."""
        return self.plural or f"{_noun(self.container)}s"

    def count_containers(self, number: int) -> str:
        """Return *number* with the word for the containers, such as ``3 jobs``."""
        return f"{number} {_noun(self.container) if number == 1 else self.containers}"

    @property
    def parts(self) -> str:
        """The word for the parts of a container, such as ``tasks``."""
        return f"{_noun(self.parent)}s"


def _noun(field: str) -> str:
    return field.removesuffix("_id").replace("_", " ")


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """
    The properties of one source.

    Attributes:
        name: The source in settings, reports and the ledger.
        kinds: The kinds of its outputs, in the order of reports.
        read_filters: Returns the filters of the source that the settings select; of None: no filters.
        lists_scopes: Whether containers are listed by their scope, such as a project. Otherwise the source
            lists accounts, and the list shows the scope of each container.
        has_global_identities: Whether outputs with the same identity are the same stored object in all
            containers. Otherwise the identity is valid in one container, and the URL of the object decides.
        has_uuids: Whether the IDs of scopes and containers are UUIDs, so that others are typing errors.
        own_filters: The flags of the selection that other sources do not have, without dashes.
        no_scopes: The flag and the problem of a run without scopes, for the message to the user.
        read_api_url: Returns the base URL of the API that the settings select.
    """

    name: str
    labels: OutputLabels
    kinds: tuple[KindSpec, ...]
    read_filters: Callable[[Any], SourceFilters] = _no_filters
    lists_scopes: bool = True
    has_global_identities: bool = False
    has_uuids: bool = False
    own_filters: tuple[str, ...] = ()
    no_scopes: tuple[str, str] = ("credentials", "name nothing that the source can list")
    read_api_url: Callable[[Any], str] | None = None

    @property
    def kind_names(self) -> tuple[str, ...]:
        """The names of its kinds."""
        return tuple(kind.name for kind in self.kinds)


class _Registry:
    """The specifications of all sources, by the names of sources and kinds."""

    def __init__(self) -> None:
        self.sources: dict[str, SourceSpec] = {}
        self.kinds: dict[str, KindSpec] = {}
        self.built_in: tuple[str, ...] = ()

    def add(self, spec: SourceSpec) -> None:
        names = [kind.name for kind in spec.kinds]
        invalid = [name for name in (spec.name, *names) if not _NAME.fullmatch(name)]
        if invalid:
            raise ValueError(f"invalid name {invalid[0]!r}; expected a-z, 0-9 and underscores")
        if spec.name in self.sources:
            raise ValueError(f"source {spec.name!r} is registered already")
        taken = [name for name in names if name in self.kinds or names.count(name) > 1]
        if taken:
            raise ValueError(f"source {spec.name!r}: kind {taken[0]!r} is registered already")
        self.sources[spec.name] = spec
        self.kinds.update(zip(names, spec.kinds, strict=True))


_UNKNOWN_LABELS = OutputLabels("scope_id", "container_id", "parent_id")


@cache
def _registry() -> _Registry:
    registry = _Registry()
    for module in _BUILT_IN:
        registry.add(import_module(module).SPEC)
    registry.built_in = tuple(registry.sources)
    return registry


def register_source(spec: SourceSpec) -> None:
    """
    Register a source that is not built in.

    Raises:
        ValueError: A name is invalid, or another source or kind has it.
    """
    _registry().add(spec)


@cache
def load_installed_source(name: str) -> Any:
    """
    Import the source *name* of another installed distribution, and register its specification.

    Raises:
        KeyError: It is not installed.
        ValueError: It cannot be imported, or it is not a valid source.
    """
    source_type = load_extension(GROUP, name)
    spec = getattr(source_type, "spec", None)
    if not isinstance(spec, SourceSpec) or spec.name != name:
        raise ValueError(f"{name} is not a source with the name of its entry point")
    register_source(spec)
    return source_type


def source_spec(name: str) -> SourceSpec:
    """
    Return the specification of the source *name*, also of another installed distribution.

    Raises:
        KeyError: No source of this name is installed.
        ValueError: It cannot be imported, or it is not a valid source.
    """
    spec = _registry().sources.get(name)
    if spec is None:
        spec = load_installed_source(name).spec
        assert isinstance(spec, SourceSpec)  # noqa: S101 - load_installed_source has checked the type
    return spec


def find_source(name: str) -> SourceSpec:
    """
    Return the specification of the source *name*, which the user chose.

    Raises:
        ValueError: No source of this name is installed, or it cannot be used. The text is for the user.
    """
    try:
        return source_spec(name)
    except KeyError:
        names = ", ".join((AUTO, *source_names()))
        raise ValueError(f"expected one of {names}; no other source is installed") from None


def source_names() -> tuple[str, ...]:
    """Return the names of all installed sources, those of bulkdl first."""
    return tuple(dict.fromkeys((*_registry().built_in, *extension_names(GROUP))))


@cache
def source_labels(source: str) -> OutputLabels:
    """Return the labels of *source*. A ledger can contain outputs of a source that is not installed."""
    try:
        return source_spec(source).labels
    except (KeyError, ValueError):
        return _UNKNOWN_LABELS


def kind_spec(name: str) -> KindSpec:
    """
    Return the specification of the kind *name*.

    Raises:
        KeyError: No kind of this name is registered.
    """
    return _registry().kinds[name]


def source_of_kind(kind: str) -> str | None:
    """Return the source whose outputs have *kind*; None if it is not installed."""
    return next(
        (name for name, spec in _registry().sources.items() if kind in spec.kind_names),
        None,
    )


def kind_names() -> tuple[str, ...]:
    """Return the names of all kinds in the order of reports."""
    return tuple(_registry().kinds)


def file_suffixes() -> tuple[str, ...]:
    """Return the suffixes that the content of outputs can require."""
    suffixes = (suffix for kind in _registry().kinds.values() for suffix in kind.suffixes if suffix)
    return tuple(dict.fromkeys(suffixes))


def is_listing_placeholder(output: Output) -> bool:
    """Return whether *output* stands for a list of outputs that was not available, not for an output."""
    return not output.name and kind_spec(output.kind).has_names


def id_field(ref: ContainerRef) -> dict[str, str]:
    """Return the ID of a container by the name of its field, for log events."""
    return {source_labels(ref.source).container: ref.id}


def container_fields(ref: ContainerRef) -> dict[str, str]:
    """Return the scope and the ID of a container by the names of their fields."""
    labels = source_labels(ref.source)
    return {labels.scope: ref.scope, labels.container: ref.id}


def output_fields(output: Output) -> dict[str, str | None]:
    """Return the scope, the container and the parent (None: the container) of *output* by their names."""
    labels = source_labels(output.container.source)
    return {
        labels.scope: output.container.scope,
        labels.container: output.container.id,
        labels.parent: output.parent or None,
    }


OUTPUT_KEYS = ("source", "scope", "container_id", "parent", "kind", "name")
"""The keys of ``output_dict``."""


def output_dict(output: Output) -> dict[str, Any]:
    """Return the fields of *output* for JSON, with the same keys for all sources."""
    ref = output.container
    values = (ref.source, ref.scope, ref.id, output.parent or None, output.kind, output.name)
    return dict(zip(OUTPUT_KEYS, values, strict=True))
