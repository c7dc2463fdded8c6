"""
One API client per set of credentials. All clients share the sessions, the rate limit and the cooldown.
"""

from __future__ import annotations

from bulkdl.settings import CredentialSet, Settings
from bulkdl.sources.sessions import Sessions
from bulkdl.sources.up42_common.auth import TokenSource
from bulkdl.sources.up42_common.credentials import Account, Credentials, ProjectKey, StaticToken
from bulkdl.sources.up42_jobs.client import Client


class ApiClients:
    """The clients of a run."""

    def __init__(self, settings: Settings, credential_set: CredentialSet, sessions: Sessions) -> None:
        self._settings = settings
        self._credential_set = credential_set
        self._sessions = sessions
        self._clients: dict[Credentials, Client] = {}

    @property
    def project_ids(self) -> tuple[str, ...]:
        """All projects of the configuration."""
        return self._credential_set.project_ids

    def client(self, project_id: str) -> Client:
        """Return the client with the credentials for *project_id*."""
        credentials = self._credentials(project_id)
        if credentials not in self._clients:
            self._clients[credentials] = self._create_client(credentials)
        return self._clients[credentials]

    def _credentials(self, project_id: str) -> Credentials:
        """Return the key of the project, or the account-wide credentials, or the key of another project."""
        credential_set = self._credential_set
        if project_id in credential_set.by_project:
            return ProjectKey(project_id, credential_set.by_project[project_id])
        if credential_set.token is not None:
            return StaticToken(credential_set.token)
        if credential_set.account is not None:
            return Account(*credential_set.account)
        other_id, api_key = next(iter(credential_set.by_project.items()))
        return ProjectKey(other_id, api_key)

    def _create_client(self, credentials: Credentials) -> Client:
        settings = self._settings
        session, request_policy = self._sessions.api, self._sessions.request_policy
        tokens = TokenSource(session, settings.token_endpoint, credentials, request_policy)
        return Client(
            session,
            settings.api_url,
            tokens,
            request_policy,
            json_limit_bytes=settings.api_response_max_size,
            allow_http=settings.allow_http,
        )
