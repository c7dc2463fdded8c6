"""Where the official client finds UP42: it has no setting for that."""

import up42.host


def point_client_at(url: str) -> None:
    """Every module of the client holds its own name for ``endpoint``; they all share its code."""

    def endpoint(path: str) -> str:
        return BASE_URL + path  # type: ignore[name-defined] # noqa: F821 - a global of up42.host

    up42.host.BASE_URL = url
    up42.host.endpoint.__code__ = endpoint.__code__
