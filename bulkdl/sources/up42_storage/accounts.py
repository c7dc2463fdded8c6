"""One client per account, and the account of each workspace."""

from __future__ import annotations

from dataclasses import dataclass

from bulkdl.settings import AccountCredentials, CredentialSet, Settings
from bulkdl.settings.path_templates import reserved_names
from bulkdl.sources.sessions import Sessions
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import Account, Credentials, StaticToken
from bulkdl.sources.up42_storage.client import StorageClient
from bulkdl.sources.up42_storage.delivery_listing import DeliveryLister
from bulkdl.sources.up42_storage.paths import ApiUrls
from bulkdl.sources.up42_storage.signed_urls import SignedUrls


@dataclass(frozen=True, slots=True)
class AccountConnection:
    """The client of one account, the lister that uses it, and the signed URLs that both share."""

    name: str
    client: StorageClient
    lister: DeliveryLister
    signed_urls: SignedUrls


class AccountConnections:
    """
    The accounts of a run.

    The account of a workspace is known once one of its deliveries was listed. The number of workspaces is
    small.
    """

    def __init__(self, settings: Settings, credentials: CredentialSet, sessions: Sessions) -> None:
        self._connections = {
            account.name: _connect(settings, account, sessions) for account in credentials.accounts
        }
        self._by_workspace: dict[str, AccountConnection] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all accounts."""
        return tuple(self._connections)

    def connection(self, name: str) -> AccountConnection:
        """Return the connection of the account *name*."""
        return self._connections[name]

    def record_workspace(self, workspace_id: str, connection: AccountConnection) -> None:
        """Record that the account of *connection* has a workspace. The first account remains."""
        self._by_workspace.setdefault(workspace_id, connection)

    def candidates(self, workspace_id: str) -> list[AccountConnection]:
        """Return the connections that can have a workspace: its account, or all accounts."""
        known = self._by_workspace.get(workspace_id)
        return [known] if known is not None else list(self._connections.values())


def _connect(settings: Settings, account: AccountCredentials, sessions: Sessions) -> AccountConnection:
    tokens = TokenSource(
        sessions.api,
        settings.account_token_endpoint,
        _credentials(account),
        sessions.request_policy,
        client_id=settings.client_id,
    )
    client = StorageClient(
        sessions.api,
        settings.account_api_url,
        tokens,
        sessions.request_policy,
        json_limit_bytes=settings.api_response_max_size,
        allow_http=settings.allow_http,
    )
    signed_urls = SignedUrls(client)
    lister = DeliveryLister(
        client,
        ApiUrls(settings.account_api_url),
        reserved_names(dict(settings.path_templates)),
        signed_urls,
    )
    return AccountConnection(account.name, client, lister, signed_urls)


def _credentials(account: AccountCredentials) -> Credentials:
    if account.token is not None:
        return StaticToken(account.token)
    if account.password is None:
        raise ValueError(f"account {account.name} has neither a password nor a token")
    return Account(account.username, account.password)
