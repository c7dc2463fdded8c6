"""Settings and credentials: defaults < TOML file < ``BULKDL_`` variables < flags."""

from bulkdl.settings.credentials import (
    AccountCredentials,
    CredentialSet,
    load_account_credentials,
    load_credentials,
)
from bulkdl.settings.load import (
    LoadedSettings,
    all_keys,
    format_setting,
    format_value,
    load_settings,
    variable_names,
)
from bulkdl.settings.model import Settings
from bulkdl.settings.parsers import Shard
from bulkdl.settings.path_templates import PathTemplates
from bulkdl.settings.source_choice import choose_sources
from bulkdl.settings.tables import AccountTable, NotifyTable, ObjectStoreTable, ProjectTable

__all__ = [
    "AccountCredentials",
    "AccountTable",
    "CredentialSet",
    "LoadedSettings",
    "NotifyTable",
    "ObjectStoreTable",
    "PathTemplates",
    "ProjectTable",
    "Settings",
    "Shard",
    "all_keys",
    "choose_sources",
    "format_setting",
    "format_value",
    "load_account_credentials",
    "load_credentials",
    "load_settings",
    "variable_names",
]
