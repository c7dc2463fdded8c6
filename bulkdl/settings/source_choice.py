"""Choose the source of a run if the settings do not name it."""

from __future__ import annotations

import os
from collections.abc import Mapping

from bulkdl.settings.credentials import CredentialSet
from bulkdl.settings.model import Settings
from bulkdl.source_spec import AUTO

JOBS, STORAGE = "jobs", "storage"
_PROJECT_VARIABLES = ("UP42_PROJECT_ID", "UP42_PROJECT_ID_FILE", "UP42_PROJECT_API_KEY")
_ACCOUNT_VARIABLES = ("UP42_USERNAME", "UP42_USERNAME_FILE", "UP42_TOKEN", "UP42_TOKEN_FILE")


def choose_source(
    settings: Settings,
    *,
    has_projects: bool = False,
    credentials: CredentialSet | None = None,
    env: Mapping[str, str] = os.environ,
) -> str:
    """
    Return the source that *settings* name, or for ``auto`` the one that has credentials.

    Args:
        has_projects: Whether the selection names projects.
        credentials: The credentials, if they are not in the environment and the settings.
    """
    if settings.source != AUTO:
        return settings.source
    if credentials is not None:
        return STORAGE if credentials.accounts and not credentials.project_ids else JOBS
    has_projects = has_projects or bool(settings.projects) or _is_any_set(_PROJECT_VARIABLES, env)
    has_account = bool(settings.accounts) or _is_any_set(_ACCOUNT_VARIABLES, env)
    return STORAGE if has_account and not has_projects else JOBS


def _is_any_set(names: tuple[str, ...], env: Mapping[str, str]) -> bool:
    return any(env.get(name, "").strip() for name in names)
