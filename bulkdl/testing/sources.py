"""
The conformance suite that every source must pass.

An author of a source writes one test class and runs it with pytest:

    class TestDirectories(SourceSuite):
        source_type = SOURCE_TYPE

        @asynccontextmanager
        async def serve(self, scenario):
            ...
            yield ProviderSite(settings, credentials, outputs={output: content, ...})

The suite opens the source against a real server in each scenario. It compares the lists and the content of
outputs, cancels calls at every point at which they wait, and sends damaged responses.
"""

from __future__ import annotations

import asyncio
import tracemalloc
import unicodedata
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import partial
from typing import ClassVar, TypeVar

import pytest

from bulkdl.errors import ApiError, DownloadError
from bulkdl.listings import ContainerListing, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output, Reason
from bulkdl.settings import CredentialSet, Settings
from bulkdl.source_spec import kind_spec, source_spec
from bulkdl.sources.interfaces import DocumentMissingError, Source, SourceContext, SourceType
from bulkdl.sources.path_matcher import PathMatcher
from bulkdl.sources.registry import source_layout
from bulkdl.sources.sessions import SessionOptions, Sessions
from bulkdl.testing.steps import cancel_at_each_step, check

T = TypeVar("T")

_CONNECTIONS = 16
_MAX_NAME_BYTES = 255
_MAX_PEAK_BYTES = 16 << 20
# Reading all outputs of a large container is not needed to test the way to them.
_MAX_READ = 40
_END_S = 10.0
_UNKNOWN_ID = "00000000-0000-4000-8000-00000000dead"


class Scenario(Enum):
    """Behaviour of the provider during a test."""

    PLAIN = "several containers with several outputs"
    HOSTILE_NAMES = "the names of outputs are not valid file names, or differ only by case or Unicode form"
    DAMAGED = "responses of the API are truncated or of the wrong type, at random"
    SHIFTING = "other containers are deleted while the containers are listed"
    LARGE = "at least 2,000 containers"


@dataclass(frozen=True, slots=True)
class ProviderSite:
    """
    A provider on a local server, and what it has.

    Attributes:
        outputs: Every output with its content. In the scenario SHIFTING: those of containers that remain.
        absent: Listed outputs that do not exist according to the provider.
        containers: The number of containers in the lists; None if it is not known.
    """

    settings: Settings
    credentials: CredentialSet
    outputs: Mapping[Output, bytes] = field(default_factory=dict)
    absent: frozenset[Output] = frozenset()
    containers: int | None = None


Serve = AbstractAsyncContextManager[ProviderSite | None]


class SourceSuite:
    """Tests of one source. A subclass defines ``source_type`` and ``serve``."""

    source_type: ClassVar[SourceType]

    def serve(self, scenario: Scenario) -> Serve:
        """
        Serve a provider in *scenario*, in another thread or process; None if the provider cannot be in it.

        The tests compare the tasks of their event loop before and after a call.
        """
        raise NotImplementedError

    def test_static_part_is_registered_under_its_name(self) -> None:
        source_type = self.source_type
        spec = source_spec(source_type.name)
        check(spec.name == source_type.name, "the specification has another name")
        check(spec.kinds, "the source has no kinds")
        check(all(kind_spec(kind.name) is kind for kind in spec.kinds), "a kind is not registered")
        templates = source_type.path_templates(Settings())
        check(source_type.container_templates, "no document stands for a container")
        names = set(source_type.container_templates)
        check(names <= set(source_type.document_templates), "a template of a container is of no document")
        check(set(source_type.document_templates) <= set(templates), "a document has no path template")

    def test_lists_return_every_output_of_the_provider(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            listings = await self._list_all(source)
            outputs = [planned.output for listing in listings for planned in listing.outputs]
            check(len(outputs) == len(set(outputs)), "an output is listed twice")
            check(site.outputs.keys() <= set(outputs), f"missing: {sorted(map(str, site.outputs))[:3]}")
            check(set(outputs) <= site.outputs.keys() | site.absent, "the provider does not have an output")
            kinds = frozenset(kind.name for kind in source_spec(self.source_type.name).kinds)
            check(all(listing.listed_kinds == kinds for listing in listings), "not all kinds are listed")

        self._run(Scenario.PLAIN, run)

    def test_container_requested_alone_equals_the_listed_one(self) -> None:
        async def run(_site: ProviderSite, source: Source) -> None:
            for container in await self._containers(source):
                check(await source.get_container(container.ref) == container, "the containers differ")
                check(container.ref.source == self.source_type.name, "the container has another source")

        self._run(Scenario.PLAIN, run)

    def test_container_from_the_ledger_has_the_same_outputs(self) -> None:
        async def run(_site: ProviderSite, source: Source) -> None:
            for container in await self._final_containers(source):
                listing = await source.list_outputs(container, self._kinds())
                recorded = await source.list_outputs(replace(container, document={}), self._kinds())
                check(recorded.outputs == listing.outputs, "a container without document has other outputs")

        self._run(Scenario.PLAIN, run)

    def test_open_output_reads_the_content(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            for output, content in list(site.outputs.items())[:_MAX_READ]:
                check(await _read(source, output) == content, f"{output}: unexpected content")

        self._run(Scenario.PLAIN, run)

    def test_open_output_sends_no_request_before_prepare(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            before = asyncio.all_tasks()
            for output in site.outputs:
                source.open_output(output)
            check(asyncio.all_tasks() == before, "open_output started a task")

        self._run(Scenario.PLAIN, run)

    def test_absent_output_is_not_a_failure_of_the_request(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            if not site.absent:
                pytest.skip("the provider does not report absent outputs")
            for output in list(site.absent)[:_MAX_READ]:
                with pytest.raises(ApiError) as caught:
                    await _read(source, output)
                check(caught.value.is_absent, f"{output}: the error does not state that it is absent")

        self._run(Scenario.PLAIN, run)

    def test_unknown_container_is_not_found(self) -> None:
        async def run(_site: ProviderSite, source: Source) -> None:
            for scope in source.scopes:
                with pytest.raises(ApiError) as caught:
                    await source.get_container(ContainerRef(self.source_type.name, scope, _UNKNOWN_ID))
                check(caught.value.reason is Reason.NOT_FOUND, f"unexpected reason {caught.value.reason}")

        self._run(Scenario.PLAIN, run)

    def test_concurrent_use_gives_the_same_result(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            expected = _outputs(await self._list_all(source))
            lists = await asyncio.gather(*(self._list_all(source) for _ in range(4)))
            check(all(_outputs(listings) == expected for listings in lists), "the lists differ")
            chosen = list(site.outputs.items())[:_MAX_READ]
            bodies = await asyncio.gather(*(_read(source, output) for output, _ in chosen))
            check(bodies == [content for _, content in chosen], "the content differs")

        self._run(Scenario.PLAIN, run)

    def test_call_cancelled_at_any_await_leaves_the_source_usable(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            containers = await self._final_containers(source)
            output, content = next(iter(site.outputs.items()))
            own_tasks = asyncio.all_tasks()

            async def check_tasks() -> None:
                # A request that several callers share can continue for the others, but it ends.
                if tasks := asyncio.all_tasks() - own_tasks:
                    _, pending = await asyncio.wait(tasks, timeout=_END_S)
                    check(not pending, f"tasks are left after a cancellation: {pending}")

            for call in (
                partial(self._containers, source),
                partial(source.get_container, containers[0].ref),
                partial(source.list_outputs, containers[0], self._kinds()),
                partial(_read, source, output),
            ):
                await cancel_at_each_step(call, check_tasks)
            check(await _read(source, output) == content, "unexpected content after cancellations")
            check(len(await self._containers(source)) == site.containers, "other containers are listed")

        self._run(Scenario.PLAIN, run)

    def test_list_closed_early_leaves_no_task(self) -> None:
        async def run(_site: ProviderSite, source: Source) -> None:
            before = asyncio.all_tasks()
            for scope in source.scopes:
                async with aclosing(source.list_containers(scope)) as entries:
                    await anext(entries)
            check(not asyncio.all_tasks() - before, "tasks are left")

        self._run(Scenario.PLAIN, run)

    def test_hostile_names_give_separate_safe_keys(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            templates = self.source_type.path_templates(site.settings)
            folded: dict[str, Output] = {}
            for listing in await self._list_all(source):
                for planned in listing.outputs:
                    key = self.source_type.make_key(planned, templates)(_suffix(planned))
                    _check_key(key)
                    other = folded.setdefault(unicodedata.normalize("NFKC", key).casefold(), planned.output)
                    check(other == planned.output, f"{planned.output} and {other} have the key {key!r}")
            check(site.outputs.keys() <= set(folded.values()), "an output with a hostile name is missing")

        self._run(Scenario.HOSTILE_NAMES, run)

    def test_documents_rebuild_the_listing(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            layout = source_layout(self.source_type, site.settings)
            matcher = PathMatcher([layout])
            for container in await self._final_containers(source):
                listing = await source.list_outputs(container, self._kinds())
                parsed_keys = [parsed for key in listing.documents if (parsed := matcher.match(key))]
                found = [
                    parsed.container
                    for parsed in parsed_keys
                    if parsed.is_container and parsed.belongs_to(container.ref)
                ]
                check(len(found) == 1, f"{len(found)} documents stand for the container {container.ref}")
                read = partial(_read_document, listing.documents)
                rebuilt = self.source_type.read_listing(found[0], layout.templates, read)
                check(rebuilt.container == container, "the rebuilt container differs")
                check(rebuilt.outputs == listing.outputs, "the rebuilt container has other outputs")
                check(rebuilt.listed_kinds == listing.listed_kinds, "other kinds are listed")

        self._run(Scenario.PLAIN, run)

    def test_damaged_responses_raise_only_download_errors(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            for _ in range(3):
                containers: list[Container] = []
                with suppress(ApiError):
                    containers = await self._containers(source)
                for container in containers:
                    with suppress(ApiError):
                        await source.list_outputs(container, self._kinds())
                for output in list(site.outputs)[:_MAX_READ]:
                    with suppress(DownloadError):
                        await _read(source, output)

        self._run(Scenario.DAMAGED, run)

    def test_list_of_shifting_pages_misses_no_remaining_container(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            listed = {container.ref for container in await self._containers(source)}
            missing = {output.container for output in site.outputs} - listed
            check(not missing, f"{len(missing)} containers are missing")

        self._run(Scenario.SHIFTING, run)

    def test_list_of_many_containers_needs_little_memory(self) -> None:
        async def run(site: ProviderSite, source: Source) -> None:
            count = 0
            tracemalloc.start()
            try:
                for scope in source.scopes:
                    async with aclosing(source.list_containers(scope)) as entries:
                        async for _ in entries:
                            count += 1
                _, peak_bytes = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            check(count >= 2_000 and site.containers in (None, count), f"{count} containers are listed")
            check(peak_bytes < _MAX_PEAK_BYTES, f"listing {count} containers needs {peak_bytes} bytes")

        self._run(Scenario.LARGE, run)

    def _run(self, scenario: Scenario, test: Callable[[ProviderSite, Source], Awaitable[None]]) -> None:
        async def run() -> None:
            async with self.serve(scenario) as site:
                if site is None:
                    pytest.skip(f"not applicable: {scenario.value}")
                async with open_source(self.source_type, site) as source:
                    await test(site, source)

        asyncio.run(run())

    def _kinds(self) -> frozenset[str]:
        return frozenset(kind.name for kind in source_spec(self.source_type.name).kinds)

    async def _containers(self, source: Source) -> list[Container]:
        containers = []
        for scope in source.scopes:
            async with aclosing(source.list_containers(scope)) as entries:
                containers += [entry async for entry in entries if not isinstance(entry, UnreadableContainer)]
        return containers

    async def _final_containers(self, source: Source) -> list[Container]:
        return [container for container in await self._containers(source) if container.is_final]

    async def _list_all(self, source: Source) -> list[ContainerListing]:
        return [
            await source.list_outputs(container, self._kinds())
            for container in await self._final_containers(source)
        ]


@asynccontextmanager
async def open_source(source_type: SourceType, site: ProviderSite) -> AsyncIterator[Source]:
    """Open *source_type* with sessions of its own, as a run does."""
    options = SessionOptions(_CONNECTIONS, lambda _session: None)
    async with Sessions(site.settings, options, options) as sessions:
        context = SourceContext(site.settings, site.credentials, sessions)
        async with source_type.open(context) as source:
            yield source


async def _read(source: Source, output: Output) -> bytes:
    remote_file = source.open_output(output)
    await remote_file.prepare()
    async with remote_file.open({}) as (response, prefetched):
        if response.status != 200:
            raise await remote_file.error_from_response(response)
        try:
            return prefetched + await response.read()
        except OSError as error:  # aiohttp's payload errors are not; they mean a defect of the source
            raise DownloadError(Reason.CONNECTION_LOST, type(error).__name__) from error


def _outputs(listings: list[ContainerListing]) -> set[Output]:
    return {planned.output for listing in listings for planned in listing.outputs}


def _suffix(planned: PlannedOutput) -> str:
    return kind_spec(planned.output.kind).suffixes[0]


def _check_key(key: str) -> None:
    parts = key.split("/")
    check(not key.startswith("/") and "\\" not in key, f"not a relative key: {key!r}")
    check(all(part not in ("", ".", "..") for part in parts), f"invalid part in {key!r}")
    check(key.isprintable(), f"control characters in {key!r}")
    check(all(len(part.encode()) <= _MAX_NAME_BYTES for part in parts), f"too long: {key!r}")


def _read_document(documents: Mapping[str, bytes], key: str) -> bytes:
    try:
        return documents[key]
    except KeyError:
        raise DocumentMissingError(Reason.INVALID_RESPONSE, f"{key}: not found") from None
