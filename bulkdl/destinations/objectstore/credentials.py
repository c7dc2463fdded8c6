"""
Find credentials that the client of the stores does not find itself, with the library of the provider.

The client reads variables, tokens and the services of machines and containers. Each of these functions
returns a provider of credentials only if the environment names something else. No secret is stored or logged
here: a provider returns it to the client.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from bulkdl.errors import ConfigError
from bulkdl.log import get_logger

log = get_logger(__name__)

_AWS_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_AZURE_CERTIFICATE = "AZURE_CLIENT_CERTIFICATE_PATH"
# The credential types that the client reads itself.
_GOOGLE_TYPES = ("service_account", "authorized_user")
_MAX_CREDENTIAL_BYTES = 1 << 20


def find_s3_credentials(env: Mapping[str, str]) -> Any:
    """
    Return the provider for an AWS profile; None if no profile is needed.

    Raises:
        ConfigError: A profile is selected, and the extra is not installed or the profile is invalid.
    """
    if any(env.get(name) for name in _AWS_SOURCES):
        return None
    profile = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE")
    if profile is None and not _has_aws_files(env):
        return None
    try:
        return _create("boto3", "Boto3CredentialProvider", "AWS_PROFILE", "aws-profiles")
    except ConfigError:
        if profile is not None:
            raise
        log.debug("store.profile_ignored")  # the files can contain a region only
        return None


def _has_aws_files(env: Mapping[str, str]) -> bool:
    home = Path("~/.aws").expanduser()
    files = (
        env.get("AWS_SHARED_CREDENTIALS_FILE") or home / "credentials",
        env.get("AWS_CONFIG_FILE") or home / "config",
    )
    return any(Path(file).is_file() for file in files)


def find_gcs_credentials(env: Mapping[str, str]) -> Any:
    """
    Return the provider for workload identity federation and similar files; None if it is not needed.

    Raises:
        ConfigError: It is needed, and the extra is not installed or the file is invalid.
    """
    name = "GOOGLE_APPLICATION_CREDENTIALS"
    path = env.get(name)
    if not path or env.get("GOOGLE_BEARER_TOKEN"):
        return None
    try:
        with Path(path).expanduser().open("rb") as file:
            content = json.loads(file.read(_MAX_CREDENTIAL_BYTES))
    except OSError as error:
        raise ConfigError(name, f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(name, f"{path}: expected JSON") from None
    kind = content.get("type") if isinstance(content, dict) else None
    if kind in (None, *_GOOGLE_TYPES):
        return None
    return _create("google", "GoogleCredentialProvider", name, "gcp-auth")


def find_azure_credentials(env: Mapping[str, str]) -> Any:
    """
    Return the provider for a client certificate; None if it is not needed.

    Raises:
        ConfigError: It is needed, and the extra is not installed or the identity is invalid.
    """
    if not env.get(_AZURE_CERTIFICATE):
        return None
    return _create("azure", "AzureCredentialProvider", _AZURE_CERTIFICATE, "azure-auth")


def _create(module: str, class_name: str, variable: str, extra: str) -> Any:
    try:
        provider: Callable[[], Any] = getattr(import_module(f"obstore.auth.{module}"), class_name)
    except ImportError:
        raise ConfigError(
            variable, f"needs the extra {extra}; install it with: pip install 'bulkdl[{extra}]'"
        ) from None
    try:
        return provider()
    except Exception as error:  # noqa: BLE001 - each library has errors of its own
        problem = str(error).strip().partition("\n")[0][:300] or type(error).__name__
        raise ConfigError(variable, f"no credentials: {problem}") from None
