"""Create the client of an object store from a URL and from the standard variables of its provider."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, ObjectStore, S3Store

from bulkdl.destinations.objectstore.failures import first_line

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
_ENDPOINT_VARIABLES = (
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT",
    "AZURE_STORAGE_ENDPOINT",
    "GOOGLE_BASE_URL",
)
_ALLOW_HTTP_VARIABLES = ("AWS_ALLOW_HTTP", "AZURE_ALLOW_HTTP", "GOOGLE_ALLOW_HTTP")


def create_store(url: str, env: Mapping[str, str] = os.environ) -> ObjectStore:
    """
    Return the client of the bucket of *url*. It sends no request.

    Raises:
        ValueError: The URL or a variable is invalid. The text is for the user.
    """
    parts = urlsplit(url)
    if not parts.netloc or parts.query:
        raise ValueError(f"invalid URL: expected {parts.scheme}://BUCKET or {parts.scheme}://BUCKET/PREFIX")
    prefix = parts.path.strip("/") or None
    if prefix and {"", ".", ".."} & set(prefix.split("/")):
        raise ValueError("invalid URL: the prefix contains an empty or a relative segment")
    try:
        return _FACTORIES[parts.scheme.lower()](parts.netloc, prefix, env)
    except BaseError as error:
        raise ValueError(f"{first_line(error)}; check the variables of the provider") from None


def _create_s3(bucket: str, prefix: str | None, env: Mapping[str, str]) -> ObjectStore:
    config: dict[str, Any] = {}
    if "AWS_CHECKSUM_ALGORITHM" not in env:
        config["checksum_algorithm"] = "CRC64NVME"  # the store compares it with the bytes of each part
    return S3Store(bucket, prefix=prefix, config=config, **_client_arguments(env))  # type: ignore[arg-type]


def _create_gcs(bucket: str, prefix: str | None, env: Mapping[str, str]) -> ObjectStore:
    return GCSStore(bucket, prefix=prefix, **_client_arguments(env))


def _create_azure(container: str, prefix: str | None, env: Mapping[str, str]) -> ObjectStore:
    return AzureStore(container, prefix=prefix, **_client_arguments(env))


_FACTORIES: dict[str, Callable[[str, str | None, Mapping[str, str]], ObjectStore]] = {
    "s3": _create_s3,
    "gs": _create_gcs,
    "az": _create_azure,
}


def _client_arguments(env: Mapping[str, str]) -> dict[str, Any]:
    """Return the arguments of all clients. ``client_options`` replace those of the environment."""
    options = {
        "timeout": _REQUEST_TIMEOUT,
        "connect_timeout": _CONNECT_TIMEOUT,
        "allow_http": _is_http_allowed(env),
    }
    return {"client_options": options, "retry_config": _RETRIES}


def _is_http_allowed(env: Mapping[str, str]) -> bool:
    """
    Return whether requests without TLS are allowed.

    Raises:
        ValueError: The endpoint has no TLS, is not on this machine, and is not allowed.
    """
    if any(env.get(name, "").lower() in ("1", "true") for name in _ALLOW_HTTP_VARIABLES):
        return True
    for name in _ENDPOINT_VARIABLES:
        parts = urlsplit(env.get(name, ""))
        if parts.scheme == "http":
            if _is_loopback(parts.hostname or ""):
                return True
            raise ValueError(f"{name}: expected https://; set AWS_ALLOW_HTTP=true only in a trusted network")
    return False


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
