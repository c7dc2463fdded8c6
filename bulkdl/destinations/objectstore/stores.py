"""Create the client of an object store from a URL and from the standard variables of its provider."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from bulkdl.destinations.network import ClientOptions
from bulkdl.destinations.objectstore.credentials import (
    find_azure_credentials,
    find_gcs_credentials,
    find_s3_credentials,
)
from bulkdl.destinations.objectstore.failures import first_line
from bulkdl.errors import ConfigError

# One request includes the transmission of its body. Slow connections need minutes for one part.
_REQUEST_TIMEOUT = timedelta(minutes=5)
_CONNECT_TIMEOUT = timedelta(seconds=10)
_RETRIES = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {
        "init_backoff": timedelta(milliseconds=200),
        "max_backoff": timedelta(seconds=5),
        "base": 2,
    },
}
_S3_ENDPOINT_VARIABLES = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_ENDPOINT_VARIABLES = (*_S3_ENDPOINT_VARIABLES, "AZURE_STORAGE_ENDPOINT", "GOOGLE_BASE_URL")
_ALLOW_HTTP_VARIABLES = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")


def create_store(
    url: str, client: ClientOptions | None = None, env: Mapping[str, str] = os.environ
) -> ObjectStore:
    """
    Return the client of the bucket of *url*. It sends no request.

    Raises:
        ValueError: The URL or a variable is invalid. The text is for the user.
        ConfigError: A file cannot be read, or the credentials need another extra.
    """
    parts = urlsplit(url)
    if not parts.netloc or parts.query:
        raise ValueError(f"invalid URL: expected {parts.scheme}://BUCKET or {parts.scheme}://BUCKET/PREFIX")
    prefix = parts.path.strip("/") or None
    if prefix and {"", ".", ".."} & set(prefix.split("/")):
        raise ValueError("invalid URL: the prefix contains an empty or a relative segment")
    try:
        return _FACTORIES[parts.scheme.lower()](parts.netloc, prefix, client or ClientOptions(), env)
    except BaseError as error:
        raise ValueError(f"{first_line(error)}; check the variables of the provider") from None


def _create_s3(bucket: str, prefix: str | None, client: ClientOptions, env: Mapping[str, str]) -> ObjectStore:
    config: dict[str, Any] = {}
    if "AWS_CHECKSUM_ALGORITHM" not in env:
        config["checksum_algorithm"] = "CRC64NVME"  # the store compares it with the bytes of each part
    provider = find_s3_credentials(env)
    endpoint = client.endpoint or _find(_S3_ENDPOINT_VARIABLES, env)
    if client.path_style is False:
        config["virtual_hosted_style_request"] = True
        endpoint = endpoint and _add_bucket(endpoint, bucket)
    if endpoint:
        config["endpoint"] = endpoint
    region = client.region or _find(("AWS_REGION", "AWS_DEFAULT_REGION"), env)
    if region:  # it has priority over the region of a profile
        config["region"] = region
    arguments = _client_arguments(client, env, env.get("AWS_CA_BUNDLE"))
    return S3Store(bucket, prefix=prefix, config=config, credential_provider=provider, **arguments)  # type: ignore[arg-type]


def _create_gcs(
    bucket: str, prefix: str | None, client: ClientOptions, env: Mapping[str, str]
) -> ObjectStore:
    arguments = _store_arguments(client, env, "base_url", find_gcs_credentials(env))
    return GCSStore(bucket, prefix=prefix, **arguments)


def _create_azure(
    container: str, prefix: str | None, client: ClientOptions, env: Mapping[str, str]
) -> ObjectStore:
    arguments = _store_arguments(client, env, "endpoint", find_azure_credentials(env))
    return AzureStore(container, prefix=prefix, **arguments)


def _store_arguments(
    client: ClientOptions, env: Mapping[str, str], endpoint_key: str, credentials: Any
) -> dict[str, Any]:
    """Return the arguments of a client that is configured with an endpoint only."""
    config = {endpoint_key: client.endpoint} if client.endpoint else {}
    return {"config": config, "credential_provider": credentials, **_client_arguments(client, env)}


_FACTORIES: dict[str, Callable[[str, str | None, ClientOptions, Mapping[str, str]], ObjectStore]] = {
    "s3": _create_s3,
    "gs": _create_gcs,
    "az": _create_azure,
}


def _client_arguments(
    client: ClientOptions, env: Mapping[str, str], ca_bundle: str | None = None
) -> dict[str, Any]:
    """Return the arguments of all clients. ``client_options`` replace those of the environment."""
    options: dict[str, Any] = {
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": _CONNECT_TIMEOUT,
        "allow_http": _is_http_allowed(client, env),
    }
    ca_file = client.ca_file or (Path(ca_bundle) if ca_bundle else None)
    if ca_file is not None:
        options["root_certificate"] = _read_certificates(ca_file)
    return {"client_options": options, "retry_config": _RETRIES}


def _read_certificates(path: Path) -> bytes:
    try:
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigError("object_store.ca_file", f"{path}: cannot be read: {error.strerror}") from None
    if b"-----BEGIN CERTIFICATE-----" not in data:
        raise ConfigError("object_store.ca_file", f"{path}: expected certificates in the format PEM")
    return data


def _find(names: Sequence[str], env: Mapping[str, str]) -> str | None:
    return next((env[name] for name in names if env.get(name)), None)


def _add_bucket(endpoint: str, bucket: str) -> str:
    """Return *endpoint* with the bucket in its host, as the client expects it."""
    parts = urlsplit(endpoint)
    return urlunsplit(parts._replace(netloc=f"{bucket}.{parts.netloc}"))


def _is_http_allowed(client: ClientOptions, env: Mapping[str, str]) -> bool:
    """
    Return whether requests without TLS are allowed.

    Raises:
        ValueError: The endpoint has no TLS, is not on this machine, and is not allowed.
    """
    if client.allow_http or any(env.get(name, "").lower() in ("1", "true") for name in _ALLOW_HTTP_VARIABLES):
        return True
    endpoints = {name: env.get(name, "") for name in _ENDPOINT_VARIABLES}
    if client.endpoint:
        endpoints = {"object_store.endpoint": client.endpoint}
    for name, endpoint in endpoints.items():
        parts = urlsplit(endpoint)
        if parts.scheme == "http":
            if _is_loopback(parts.hostname or ""):
                return True
            raise ValueError(
                f"{name}: expected https://; set AWS_ALLOW_HTTP=true, or allow_http in [object_store], only "
                "in a trusted network"
            )
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
