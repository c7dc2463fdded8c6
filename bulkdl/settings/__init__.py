"""Settings and credentials: defaults < TOML file < ``BULKDL_`` variables < flags."""

from bulkdl.settings.credentials import CredentialBook, load_credentials
from bulkdl.settings.load import Loaded, all_keys, load_settings, shown, variables
from bulkdl.settings.model import ProjectTable, Settings
from bulkdl.settings.names import Names
from bulkdl.settings.parse import Shard

__all__ = [
    "CredentialBook",
    "Loaded",
    "Names",
    "ProjectTable",
    "Settings",
    "Shard",
    "all_keys",
    "load_credentials",
    "load_settings",
    "shown",
    "variables",
]
