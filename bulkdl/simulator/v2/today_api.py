"""
Serve today's API: login, and the dispatch to the endpoints for assets, STAC and webhooks.

``POST /realms/public/protocol/openid-connect/token`` takes the form ``grant_type=password``, ``username``,
``password``, ``client_id`` (``up42-api`` or ``up42-sdk``), or ``grant_type=refresh_token``. It returns
``access_token``, ``expires_in``, ``refresh_token``, ``refresh_expires_in`` and ``token_type``. An error is
``{"error", "error_description"}``: 401 ``invalid_grant`` for wrong credentials, 401 ``invalid_client``, and
400 for anything else. ``GET …/userinfo`` returns ``{"sub": <workspace>, "email", …}``. All other endpoints
need the bearer token.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

from bulkdl.simulator import routes
from bulkdl.simulator.account import SimulatedAccount
from bulkdl.simulator.messages import ReceivedRequest, Reply
from bulkdl.simulator.objects import Bucket
from bulkdl.simulator.tokens import Caller, OAuthError, Tokens, Unauthorized
from bulkdl.simulator.v2.assets_api import AssetsApi
from bulkdl.simulator.v2.messages import ApiRequest, RequestRejected, create_error_reply, create_reply
from bulkdl.simulator.v2.stac_api import StacApi
from bulkdl.simulator.v2.webhooks import Webhooks

Endpoint = Callable[[ApiRequest], Reply] | Callable[[ApiRequest], Awaitable[Reply]]


class TodayApi:
    """
    Attributes:
        account: Must be replaced when the account changes.
        webhooks: The registered webhooks.
    """

    def __init__(
        self,
        account: SimulatedAccount,
        tokens: Tokens,
        bucket: Bucket,
        sign: Callable[[str, str], str],
        delete_collection: Callable[[str], None],
        max_page_size: int,
    ) -> None:
        self.account, self._tokens = account, tokens
        changes: dict[str, dict[str, Any]] = {}
        assets = AssetsApi(
            lambda: self.account.deliveries,
            changes,
            sign,
            lambda path: bucket.read(path).size,
            max_page_size,
        )
        stac = StacApi(lambda: self.account.deliveries, changes, delete_collection, max_page_size)
        self.webhooks = Webhooks(lambda: self.account.deliveries)
        self._endpoints: dict[tuple[str, str], Endpoint] = {
            ("userinfo", "GET"): self._userinfo,
            **assets.endpoints,
            **stac.endpoints,
            **self.webhooks.endpoints,
        }

    async def handle(self, call: ReceivedRequest) -> Reply:
        route = routes.find_route(call.segments)
        try:
            if route.endpoint == "login":
                return self._log_in(call)
            caller = self._tokens.check(call.headers.get("Authorization", ""))
            endpoint = self._find_endpoint(route.endpoint, call.method, caller)
            reply = endpoint(ApiRequest(call, route.parameters, base_url(call)))
            return reply if isinstance(reply, Reply) else await reply
        except Unauthorized as error:
            return create_error_reply(route.endpoint, 401, str(error))
        except RequestRejected as error:
            return create_error_reply(route.endpoint, error.status, error.message)

    def _find_endpoint(self, name: str, method: str, caller: Caller) -> Endpoint:
        if name not in routes.TODAY_ENDPOINTS:
            raise RequestRejected(404, "No such endpoint")
        if caller.project is not None:
            raise RequestRejected(403, "Access is denied")
        endpoint = self._endpoints.get((name, "GET" if method == "HEAD" else method))
        if endpoint is None:
            raise RequestRejected(405, f"Request method '{method}' is not supported")
        return endpoint

    def _log_in(self, call: ReceivedRequest) -> Reply:
        if call.method != "POST":
            raise RequestRejected(405, f"Request method '{call.method}' is not supported")
        try:
            grant = self._tokens.log_in(call)
        except OAuthError as error:
            document = {"error": error.error, "error_description": error.description}
            return create_reply(document, error.status)
        return create_reply(
            {
                "access_token": grant.access_token,
                "expires_in": grant.expires_in,
                "refresh_expires_in": grant.refresh_expires_in,
                "refresh_token": grant.refresh_token,
                "token_type": "Bearer",
                "not-before-policy": 0,
                "session_state": str(uuid.uuid4()),
                "scope": "ACCOUNT_ADMIN USER",
            }
        )

    def _userinfo(self, _request: ApiRequest) -> Reply:
        username = self._tokens.user[0]
        return create_reply(
            {
                "sub": self.account.deliveries.workspace_id(0),
                "email_verified": True,
                "preferred_username": username,
                "email": username,
            }
        )


def base_url(call: ReceivedRequest) -> str:
    """Return the origin that the client used. A proxy that ends TLS sends ``X-Forwarded-Proto``."""
    scheme = call.headers.get("X-Forwarded-Proto", "http")
    return f"{scheme}://{call.headers.get('Host', 'localhost')}"
