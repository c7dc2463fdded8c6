"""Configure the API URL of the official client, which has no setting for it."""

import up42.host


def point_client_at(url: str) -> None:
    """Replace the code of ``endpoint``, because every module of the client imports the function itself."""

    def endpoint(path: str) -> str:
        return BASE_URL + path  # type: ignore[name-defined] # noqa: F821 - a global of up42.host

    up42.host.BASE_URL = url
    up42.host.endpoint.__code__ = endpoint.__code__
