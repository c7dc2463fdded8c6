"""
Credentials from the environment, from mounted files and from the ``[[projects]]`` tables.

The command line does not accept credentials. ``graph`` converts them to the credential types of the source.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import SecretStr

from bulkdl.errors import ConfigError
from bulkdl.settings import parsers
from bulkdl.settings.model import Settings
from bulkdl.settings.tables import AccountTable, NotifyTable, ProjectTable

_NONE = (
    "none found; set UP42_PROJECT_ID and UP42_PROJECT_API_KEY, or UP42_USERNAME and UP42_PASSWORD, "
    "or UP42_TOKEN (each also with _FILE), or add [[projects]] tables to the config file"
)


_NO_ACCOUNT = (
    "none found; set UP42_USERNAME and UP42_PASSWORD, or UP42_TOKEN (each also with _FILE), or add "
    "[[accounts]] tables to the config file"
)
_PREFIX = "UP42_"
# Name of the account in the environment.
DEFAULT_ACCOUNT = "account"


@dataclass(frozen=True, slots=True)
class AccountCredentials:
    """
    The credentials of one account of today's API: a user name and a password, or a token.

    Attributes:
        name: The name in logs and reports.
    """

    name: str
    username: str = ""
    password: SecretStr | None = None
    token: SecretStr | None = None

    def secrets(self) -> list[str]:
        """Return every secret in plain text, for the redaction of logs."""
        return [secret.get_secret_value() for secret in (self.password, self.token) if secret is not None]


@dataclass(frozen=True, slots=True)
class CredentialSet:
    """
    The credentials that the configuration contains.

    Attributes:
        by_project: Project id → API key.
        account: User name and password; valid for every project of the user.
        token: An access token; valid until it expires.
        project_ids: Every project in the config file and the environment, in that order.
        accounts: The accounts of today's API.
    """

    by_project: dict[str, SecretStr] = field(default_factory=dict)
    account: tuple[str, SecretStr] | None = None
    token: SecretStr | None = None
    project_ids: tuple[str, ...] = ()
    accounts: tuple[AccountCredentials, ...] = ()

    def merge(self, other: CredentialSet) -> CredentialSet:
        """Return the credentials of both sets. Values of *other* take precedence."""
        return CredentialSet(
            {**self.by_project, **other.by_project},
            other.account or self.account,
            other.token or self.token,
            tuple(dict.fromkeys((*self.project_ids, *other.project_ids))),
            tuple({account.name: account for account in (*self.accounts, *other.accounts)}.values()),
        )

    def secrets(self) -> list[str]:
        """Return every secret in plain text, for the redaction of logs."""
        keys = [*self.by_project.values(), *([self.account[1]] if self.account else [])]
        secrets = [secret.get_secret_value() for secret in (*keys, *([self.token] if self.token else []))]
        return secrets + [secret for account in self.accounts for secret in account.secrets()]


def load_credentials(settings: Settings, env: Mapping[str, str] = os.environ) -> CredentialSet:
    """
    Read the credentials from *env*, from files and from the project tables.

    Raises:
        ConfigError: No credentials are set, a set is incomplete, or a credential file cannot be read.
    """
    token = _read_secret("UP42_TOKEN", env)
    account = _read_account(env)
    by_project = {}
    for number, table in enumerate(settings.projects, start=1):
        key = _read_table_key(table, number, env)
        if key is not None:
            by_project[table.id] = key
    project_id = _read_variable("UP42_PROJECT_ID", env)
    api_key = _read_secret("UP42_PROJECT_API_KEY", env)
    if project_id is not None:
        project_id = _parse_uuid("UP42_PROJECT_ID", project_id)
    elif api_key is not None:
        raise ConfigError("UP42_PROJECT_ID", "is missing, but UP42_PROJECT_API_KEY is set")
    if project_id is not None and api_key is not None:
        by_project[project_id] = api_key
    ids = dict.fromkeys([*(table.id for table in settings.projects), *([project_id] if project_id else [])])
    credentials = CredentialSet(by_project, account, token, tuple(ids))
    return _check_complete(credentials, project_id)


def load_account_credentials(settings: Settings, env: Mapping[str, str] = os.environ) -> CredentialSet:
    """
    Read the credentials of accounts from *env*, from files and from the account tables.

    Raises:
        ConfigError: No credentials are set, a set is incomplete, or a credential file cannot be read.
    """
    accounts = [
        AccountCredentials(table.name, table.username, _read_table_password(table, number, env))
        for number, table in enumerate(settings.accounts, start=1)
    ]
    names = [account.name for account in accounts]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError("accounts", f"the name {repeated!r} is given twice")
    token, account = _read_secret("UP42_TOKEN", env), _read_account(env)
    if token is not None:
        accounts.append(AccountCredentials(DEFAULT_ACCOUNT, token=token))
    elif account is not None:
        accounts.append(AccountCredentials(DEFAULT_ACCOUNT, *account))
    if not accounts:
        raise ConfigError("credentials", _NO_ACCOUNT)
    return CredentialSet(accounts=tuple(accounts))


def read_notify_header(table: NotifyTable, env: Mapping[str, str] = os.environ) -> SecretStr | None:
    """
    Return the value of the header of notifications; None without one.

    Raises:
        ConfigError: The variable is not set, or the file cannot be read.
    """
    if table.header_file is not None:
        return SecretStr(read_secret_file("notify.header_file", table.header_file))
    if table.header_env is None:
        return None
    return SecretStr(_read_named_variable("notify.header_env", table.header_env, env))


def remove_credentials(settings: Settings, env: Mapping[str, str]) -> dict[str, str]:
    """Return *env* without the variables that can contain credentials, for a command of the user."""
    private = {settings.notify.header_env}
    private |= {table.api_key_env for table in settings.projects}
    private |= {table.password_env for table in settings.accounts}
    return {
        name: value for name, value in env.items() if name not in private and not name.startswith(_PREFIX)
    }


def _read_table_password(table: AccountTable, number: int, env: Mapping[str, str]) -> SecretStr:
    if table.password_file is not None:
        return SecretStr(read_secret_file(f"accounts[{number}].password_file", table.password_file))
    return SecretStr(_read_named_variable(f"accounts[{number}].password_env", table.password_env or "", env))


def _check_complete(credentials: CredentialSet, env_project_id: str | None) -> CredentialSet:
    """Check that every project in *credentials* has credentials; return *credentials*."""
    if credentials.account or credentials.token:
        return credentials
    if env_project_id is not None and env_project_id not in credentials.by_project:
        raise ConfigError("UP42_PROJECT_API_KEY", "is missing, but UP42_PROJECT_ID is set")
    for number, project_id in enumerate(credentials.project_ids, start=1):
        if project_id not in credentials.by_project:
            raise ConfigError(f"projects[{number}]", f"{project_id} has neither api_key_env nor api_key_file")
    if not credentials.by_project:
        raise ConfigError("credentials", _NONE)
    return credentials


def _read_account(env: Mapping[str, str]) -> tuple[str, SecretStr] | None:
    username, password = _read_variable("UP42_USERNAME", env), _read_secret("UP42_PASSWORD", env)
    if username is None and password is None:
        return None
    if username is None:
        raise ConfigError("UP42_USERNAME", "is missing, but UP42_PASSWORD is set")
    if password is None:
        raise ConfigError("UP42_PASSWORD", "is missing, but UP42_USERNAME is set")
    return username, password


def _read_table_key(table: ProjectTable, number: int, env: Mapping[str, str]) -> SecretStr | None:
    if table.api_key_file is not None:
        return SecretStr(read_secret_file(f"projects[{number}].api_key_file", table.api_key_file))
    if table.api_key_env is None:
        return None
    return SecretStr(_read_named_variable(f"projects[{number}].api_key_env", table.api_key_env, env))


def _read_named_variable(where: str, name: str, env: Mapping[str, str]) -> str:
    """Return the variable that a table names."""
    value = _read_variable(name, env)
    if value is None:
        label = parsers.hide_secret(name)
        raise ConfigError(where, f"the variable {label} is not set; expected a variable's name")
    return value


def _read_secret(name: str, env: Mapping[str, str]) -> SecretStr | None:
    value = _read_variable(name, env)
    return None if value is None else SecretStr(value)


def _read_variable(name: str, env: Mapping[str, str]) -> str | None:
    """Return the variable *name*, or the content of the file *name*_FILE; empty means unset."""
    value, path = env.get(name, "").strip(), env.get(f"{name}_FILE", "").strip()
    if value and path:
        raise ConfigError(name, f"is set together with {name}_FILE; keep one of them")
    if path:
        return read_secret_file(f"{name}_FILE", Path(path))
    return value or None


def read_secret_file(where: str, path: Path) -> str:
    """
    Return the text in the file *path* without white space around it.

    Raises:
        ConfigError: The file cannot be read, or it is empty. The error names *where*.
    """
    label = parsers.hide_secret(str(path))
    try:
        path = parsers.parse_path(path)
    except ValueError as error:
        raise ConfigError(where, str(error)) from None
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except OSError as error:
        raise ConfigError(where, f"{label} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        # Not chained, because the error contains the content of the file.
        raise ConfigError(where, f"{label} is not valid UTF-8") from None
    if not text:
        raise ConfigError(where, f"{label} is empty")
    return text


def _parse_uuid(name: str, value: str) -> str:
    try:
        return parsers.parse_uuid(value)
    except ValueError as error:
        raise ConfigError(name, str(error)) from None
