"""Register the service at UP42: one webhook in each workspace of the accounts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from pydantic import SecretStr

from bulkdl.errors import ConfigError
from bulkdl.settings import CredentialSet, Settings
from bulkdl.sources.sessions import SessionOptions, Sessions
from bulkdl.sources.up42_storage.accounts import AccountConnection, AccountConnections
from bulkdl.sources.up42_storage.webhooks import Webhook, WebhookClient, find_workspaces

_MAX_CONNECTIONS = 4
NAME = "bulkdl"


class Change(StrEnum):
    """What a command did with a webhook."""

    CREATED = "created"
    CHANGED = "changed"
    REMOVED = "removed"
    FOUND = "found"
    TESTED = "tested"


@dataclass(frozen=True, slots=True)
class RegisteredWebhook:
    """
    One webhook, and what was done with it.

    Attributes:
        tests: Number of test events that were delivered, and of all; None without a test.
    """

    account: str
    webhook: Webhook
    change: Change
    tests: tuple[int, int] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {
            "account": self.account,
            **asdict(self.webhook),
            "change": self.change.value,
            "tests": None if self.tests is None else {"succeeded": self.tests[0], "run": self.tests[1]},
        }


class Registration:
    """
    Manages the webhooks of the accounts.

    Args:
        workspaces: IDs of workspaces; empty for all workspaces with deliveries, orders or jobs.
    """

    def __init__(
        self, settings: Settings, connections: AccountConnections, workspaces: Sequence[str]
    ) -> None:
        self._settings = settings
        self._connections = [connections.connection(name) for name in connections.names]
        self._workspaces = workspaces

    async def list_webhooks(self, url: str | None) -> list[RegisteredWebhook]:
        """Return the webhooks with *url*, or all."""
        return [entry async for entry, _ in self._find(url)]

    async def add(self, url: str, secret: SecretStr | None) -> list[RegisteredWebhook]:
        """Create a webhook for *url* in each workspace. An existing one gets the secret and is activated."""
        results = []
        async for connection, workspace_id, client in self._workspaces_of_accounts():
            existing = [each for each in await client.list_webhooks(workspace_id) if each.url == url]
            if existing:
                webhook, change = await client.change(existing[0], NAME, secret), Change.CHANGED
            else:
                webhook = await client.create(workspace_id, url, NAME, secret)
                change = Change.CREATED
            results.append(RegisteredWebhook(connection.name, webhook, change))
        return results

    async def remove(self, url: str) -> list[RegisteredWebhook]:
        """Delete all webhooks with *url*."""
        results = []
        async for entry, client in self._find(url):
            await client.delete(entry.webhook)
            results.append(RegisteredWebhook(entry.account, entry.webhook, Change.REMOVED))
        return results

    async def test(self, url: str) -> list[RegisteredWebhook]:
        """Let UP42 send test events to the webhooks with *url*."""
        results = []
        async for entry, client in self._find(url):
            tests = await client.send_tests(entry.webhook)
            results.append(RegisteredWebhook(entry.account, entry.webhook, Change.TESTED, tests))
        return results

    async def _find(self, url: str | None) -> AsyncIterator[tuple[RegisteredWebhook, WebhookClient]]:
        async for connection, workspace_id, client in self._workspaces_of_accounts():
            for webhook in await client.list_webhooks(workspace_id):
                if url is None or webhook.url == url:
                    yield RegisteredWebhook(connection.name, webhook, Change.FOUND), client

    async def _workspaces_of_accounts(self) -> AsyncIterator[tuple[AccountConnection, str, WebhookClient]]:
        """Yield each workspace with the client of its account."""
        for connection in self._connections:
            client = WebhookClient(connection.client.json, self._settings.account_api_url)
            for workspace_id in self._workspaces or await find_workspaces(connection.client):
                yield connection, workspace_id, client


@asynccontextmanager
async def open_registration(
    settings: Settings, credentials: CredentialSet, workspaces: Sequence[str]
) -> AsyncIterator[Registration]:
    """
    Open the sessions of a registration.

    Raises:
        ConfigError: There are several accounts, and *workspaces* do not identify the account.
    """
    if workspaces and len(credentials.accounts) > 1:
        raise ConfigError("--workspace", "needs a config file with one account")
    options = SessionOptions(_MAX_CONNECTIONS, lambda _session: None)
    async with Sessions(settings, options, options) as sessions:
        yield Registration(settings, AccountConnections(settings, credentials, sessions), workspaces)
