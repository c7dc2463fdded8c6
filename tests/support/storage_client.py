"""A minimal client of today's UP42 API, written after its documentation and not after bulkdl."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions

LOGIN = "/realms/public/protocol/openid-connect/token"
USERINFO = "/realms/public/protocol/openid-connect/userinfo"
STAC = "/v2/assets/stac"


class StorageClient:
    """Attributes: token: The access token; empty before the login."""

    def __init__(self, simulator: Simulator, http: aiohttp.ClientSession) -> None:
        self.simulator, self.http, self.token = simulator, http, ""

    async def log_in(self, **form: str) -> tuple[int, Any]:
        """Request a token with the credentials of the account; *form* replaces fields, empty ones removed."""
        username, password = self.simulator.account_credentials
        fields = {
            "grant_type": "password",
            "username": username,
            "password": password,
            "client_id": "up42-api",
            **form,
        }
        sent = {key: value for key, value in fields.items() if value}
        async with self.http.post(self.simulator.api_url + LOGIN, data=sent) as response:
            document = await response.json()
        self.token = document.get("access_token", self.token)
        return response.status, document

    async def send(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """Send a request to *path* (or an absolute URL) and return status and document."""
        url = path if "://" in path else self.simulator.api_url + path
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.request(method, URL(url, encoded=True), headers=headers, **more) as response:
            is_json = "json" in response.headers.get("Content-Type", "")
            return response.status, await response.json(content_type=None) if is_json else None

    async def get(self, path: str) -> Any:
        status, document = await self.send("GET", path)
        assert status == 200, document
        return document

    async def post(self, path: str, body: Any = None) -> Any:
        status, document = await self.send("POST", path, json=body)
        assert status == 200, document
        return document

    async def pages(self, path: str, key: str) -> list[Any]:
        """Return the entries under *key* of all Spring pages."""
        entries: list[Any] = []
        page, joint = 0, "&" if "?" in path else "?"
        while True:
            document = await self.get(f"{path}{joint}page={page}")
            entries += document[key]
            page += 1
            if page >= document["totalPages"]:
                assert document["last"]
                return entries

    async def follow(self, path: str, key: str, *, max_pages: int = 1_000) -> list[Any]:
        """Return the entries under *key*, following the links ``next``."""
        entries: list[Any] = []
        while path and max_pages:
            document = await self.get(path)
            entries += document[key]
            path = next((link["href"] for link in document["links"] if link["rel"] == "next"), "")
            max_pages -= 1
        return entries

    async def search(self, body: Any, *, max_pages: int = 1_000) -> list[Any]:
        """Return all features of a search, with the next body as sent by the server."""
        features: list[Any] = []
        for _ in range(max_pages):
            document = await self.post(f"{STAC}/search", body)
            features += document["features"]
            link = next((link for link in document["links"] if link["rel"] == "next"), None)
            if link is None:
                break
            assert link["method"] == "POST"
            body = link["body"]
        return features

    async def sign(self, asset_id: str) -> str:
        status, document = await self.send("POST", f"/v2/assets/{asset_id}/download-url")
        assert status == 200, document
        assert list(document) == ["url"]
        return str(document["url"])

    async def read(self, url: str, **headers: str) -> tuple[int, aiohttp.typedefs.LooseHeaders, bytes]:
        async with self.http.get(URL(url, encoded=True), headers=headers) as response:
            return response.status, response.headers, await response.read()


@asynccontextmanager
async def storage_client(
    account: SimulatedAccount | None = None, *, faults: Faults | None = None, **options: Any
) -> AsyncIterator[StorageClient]:
    """Run a simulator and yield a client that has logged in."""
    async with (
        Simulator(account or SimulatedAccount(), SimulatorOptions(**options)) as simulator,
        aiohttp.ClientSession(auto_decompress=False) as http,
    ):
        client = StorageClient(simulator, http)
        await client.log_in()
        simulator.faults = faults
        yield client
