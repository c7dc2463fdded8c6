"""Settings and credentials: defaults < TOML file < ``BULKDL_`` variables < flags."""

from bulkdl.settings.credentials import CredentialSet, load_credentials
from bulkdl.settings.load import (
    LoadedSettings,
    all_keys,
    format_setting,
    format_value,
    load_settings,
    variable_names,
)
from bulkdl.settings.model import ProjectTable, Settings
from bulkdl.settings.parsers import Shard
from bulkdl.settings.path_templates import PathTemplates

__all__ = [
    "CredentialSet",
    "LoadedSettings",
    "PathTemplates",
    "ProjectTable",
    "Settings",
    "Shard",
    "all_keys",
    "format_setting",
    "format_value",
    "load_credentials",
    "load_settings",
    "variable_names",
]
