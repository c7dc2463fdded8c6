"""The three ways to be somebody at UP42. None of them shows its secret."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr


@dataclass(frozen=True, slots=True)
class ProjectKey:
    """A project's API key: the client_credentials grant."""

    project_id: str
    api_key: SecretStr


@dataclass(frozen=True, slots=True)
class Account:
    """A user's name and password: the password grant."""

    username: str
    password: SecretStr


@dataclass(frozen=True, slots=True)
class ReadyToken:
    """A token that somebody else obtained; it cannot be renewed."""

    token: SecretStr


Credentials = ProjectKey | Account | ReadyToken


def secrets_of(credentials: Credentials) -> tuple[str, ...]:
    """Return the texts of *credentials* that must not be quoted anywhere."""
    match credentials:
        case ProjectKey(api_key=secret) | Account(password=secret) | ReadyToken(token=secret):
            return (secret.get_secret_value(),)
