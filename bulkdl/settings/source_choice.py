"""Choose the sources of a run if the settings do not name them."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bulkdl.settings.credentials import CredentialSet
from bulkdl.settings.model import Settings

JOBS, STORAGE = "jobs", "storage"
_PROJECT_VARIABLES = ("UP42_PROJECT_ID", "UP42_PROJECT_ID_FILE", "UP42_PROJECT_API_KEY")
_ACCOUNT_VARIABLES = ("UP42_USERNAME", "UP42_USERNAME_FILE", "UP42_TOKEN", "UP42_TOKEN_FILE")


def choose_sources(
    settings: Settings,
    *,
    credentials: CredentialSet | None = None,
    env: Mapping[str, str] = os.environ,
) -> tuple[str, ...]:
    """
    Return the sources that *settings* name, or for ``auto`` those that have credentials.

    Both sources of UP42 are chosen if a project is known and the settings contain an account. A user name or
    a token in the environment can belong to the projects. It selects the storage only without a project.

    Args:
        credentials: The credentials, if they are not in the environment and the settings.
    """
    if settings.source_names:
        return settings.source_names
    if credentials is not None:
        has_projects, has_accounts = bool(credentials.project_ids), bool(credentials.accounts)
        has_login = has_accounts
    else:
        has_projects = bool(settings.projects) or _is_any_set(_PROJECT_VARIABLES, env)
        has_accounts = bool(settings.accounts)
        has_login = has_accounts or _is_any_set(_ACCOUNT_VARIABLES, env)
    if has_projects and has_accounts:
        return (JOBS, STORAGE)
    return (STORAGE,) if has_login and not has_projects else (JOBS,)


def _is_any_set(names: tuple[str, ...], env: Mapping[str, str]) -> bool:
    return any(env.get(name, "").strip() for name in names)
