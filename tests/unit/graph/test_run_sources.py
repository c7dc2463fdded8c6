"""The sources of one run: their sessions, shared limits and keys."""

from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from bulkdl.graph.pool_limits import ConnectionLimits
from bulkdl.graph.run_sources import RunSources
from bulkdl.settings import CredentialSet, Settings
from bulkdl.telemetry.events import NullReporter

LIMITS = {name: ConnectionLimits(3, 5) for name in "ab"}


class FakeSourceType:
    """A source type that records its context and whether the source is open."""

    def __init__(self, name, error=None):
        self.name, self.spec, self.context, self.is_open = name, f"spec of {name}", None, False
        self._error = error

    def path_templates(self, _settings):
        return {}

    def endpoint_label(self, _method, _url):
        return "api"

    def make_key(self, _planned, _templates):
        raise NotImplementedError

    @asynccontextmanager
    async def open(self, context):
        if self._error is not None:
            raise self._error
        self.context, self.is_open = context, True
        try:
            yield SimpleNamespace(scopes=(f"scope of {self.name}",))
        finally:
            self.is_open = False


def run_sources(*source_types):
    return RunSources(Settings(), source_types, CredentialSet(), LIMITS, NullReporter())


async def test_run_sources_share_the_rate_limit_and_the_cooldown():
    first, second = FakeSourceType("a"), FakeSourceType("b")
    async with run_sources(first, second) as sources:
        assert list(sources.opened) == ["a", "b"]
        a, b = first.context.sessions, second.context.sessions
        assert a.cooldown is b.cooldown
        assert a.request_policy.rate_limiters is b.request_policy.rate_limiters
        assert a.api is not b.api
        assert (a.api.connector.limit, a.storage.connector.limit) == (3, 5)
    assert (first.is_open, second.is_open) == (False, False)
    assert a.api.closed


async def test_run_sources_return_the_scopes_of_open_sources_only():
    async with run_sources(FakeSourceType("a"), FakeSourceType("b")) as sources:
        assert sources.scopes("b") == ("scope of b",)
    with pytest.raises(RuntimeError, match="not open"):
        run_sources(FakeSourceType("a")).scopes("a")


async def test_run_sources_close_the_first_source_if_the_second_one_cannot_be_opened():
    first = FakeSourceType("a")
    with pytest.raises(LookupError):
        await run_sources(first, FakeSourceType("b", LookupError("x"))).__aenter__()
    assert first.is_open is False
    assert first.context.sessions.api.closed
