"""The three credential types of UP42. ``repr()`` does not show their secrets."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """The API key of a project; uses the client_credentials grant."""

    project_id: str
    api_key: SecretStr

    def basic(self) -> str:
        """Return the value after ``Basic`` in the Authorization header. It is a secret."""
        return base64.b64encode(f"{self.project_id}:{self.api_key.get_secret_value()}".encode()).decode(
            "ascii"
        )


@dataclass(frozen=True, slots=True)
class Account:
    """The name and password of a user; uses the password grant."""

    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class StaticToken:
    """A token that was obtained elsewhere. It cannot be renewed."""

    token: SecretStr


Credentials = ProjectKey | Account | StaticToken


def describe_check(credentials: Credentials) -> str:
    """Return what the user must check if UP42 rejects *credentials*."""
    match credentials:
        case ProjectKey():
            return "check the project ID and its API key"
        case Account():
            return "check the user name and the password"
        case StaticToken():
            return "check the token"


def get_secrets(credentials: Credentials) -> tuple[str, ...]:
    """Return the secret texts of *credentials*, which messages and logs must not contain."""
    match credentials:
        case ProjectKey(api_key=secret):
            return (credentials.basic(), secret.get_secret_value())
        case Account(password=secret) | StaticToken(token=secret):
            return (secret.get_secret_value(),)
