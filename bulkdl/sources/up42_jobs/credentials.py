"""The three ways to be somebody at UP42. None of them shows its secret."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """A project's API key: the client_credentials grant."""

    project_id: str
    api_key: SecretStr

    def basic(self) -> str:
        """Return what follows ``Basic`` in the header; as secret as the key."""
        return base64.b64encode(f"{self.project_id}:{self.api_key.get_secret_value()}".encode()).decode(
            "ascii"
        )


@dataclass(frozen=True, slots=True)
class Account:
    """A user's name and password: the password grant."""

    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that somebody else obtained; it cannot be renewed."""

    token: SecretStr


Credentials = ProjectKey | Account | StaticToken


def secrets_of(credentials: Credentials) -> tuple[str, ...]:
    """Return the texts of *credentials* that must not be quoted anywhere."""
    match credentials:
        case ProjectKey(api_key=secret):
            return (credentials.basic(), secret.get_secret_value())
        case Account(password=secret) | StaticToken(token=secret):
            return (secret.get_secret_value(),)
