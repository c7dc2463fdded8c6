"""
A second implementation of today's API: assets, STAC, processing jobs and orders, next to the same storage.

It shares no code with ``bulkdl.simulator``. Pages have seven entries whatever the client requests. Pages of
assets and orders shift, and linked pages repeat their first entry. The faults are those of ``origin.py``.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from robustness.origin import PAGE, Fault, Handler, Origin, identity
from robustness.stored_objects import StoredArchive, png, tgz

REALM = "/realms/public/protocol/openid-connect"
STAC = "/v2/assets/stac"
BUCKET = "/user-storage-interstellar-prod/assets/"
CREATED = "2024-03-01T10:00:00.123456Z"
MEDIA_TYPES = {
    ".tgz": "application/gzip",
    ".tiff": "image/tiff; application=geotiff; profile=cloud-optimized",
    ".png": "image/png",
    ".xml": "application/xml",
    ".geojson": "application/geo+json",
}
ROLES = {".tiff": ["data", "multispectral"], ".png": ["thumbnail"], ".xml": ["metadata"]}


@dataclass
class StoredFile(StoredArchive):
    """
    An asset.

    Attributes:
        name: Its key in STAC, and the name in its signed URL.
        delivery: The collection that it belongs to; None: an original that is in no collection.
        scene: The item that it belongs to; None: it is the original.
    """

    name: str = "output.tgz"
    delivery: int | None = 0
    scene: int | None = None

    @property
    def suffix(self) -> str:
        return self.name[self.name.rindex(".") :]

    @property
    def asset_id(self) -> str:
        return identity(5, self.seed)

    def create_body(self, seed: int) -> bytes:
        if self.suffix == ".tgz":
            return tgz(seed, self.size_bytes)
        if self.suffix == ".png":
            return png(seed)
        noise = random.Random(seed).randbytes(self.size_bytes // 2)
        if self.suffix == ".tiff":
            return b"II*\0" + noise
        if self.suffix == ".xml":
            return f"<?xml version='1.0'?><product>{noise.hex()}</product>".encode()
        return json.dumps({"type": "FeatureCollection", "features": [], "noise": noise.hex()}).encode()


def link(rel: str, href: str, **more: Any) -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": "application/json", **more}


class TodayOrigin(Origin):
    """
    Context manager that runs today's API and the storage on free ports.

    Attributes:
        has_twins: Items of every second delivery have the original as an asset, and its collection has none.
        has_plain_links: Links to the next page have the scheme http, as in the documentation.
        issued: All tokens, and the signatures of all signed URLs.
    """

    username, password = "someone@example.com", "p&w d+51"
    workspace = identity(4)

    def __init__(
        self,
        files: Sequence[StoredFile],
        *,
        has_twins: bool = False,
        has_plain_links: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(list(files), **options)
        self.files = files
        self.has_twins, self.has_plain_links = has_twins, has_plain_links
        self.issued: set[str] = set()
        self._by_id = {file.asset_id: number for number, file in enumerate(files)}
        self.deliveries = sorted({file.delivery for file in files if file.delivery is not None})

    def handler_type(self) -> type[Handler]:
        return TodayHandler

    def path_of(self, number: int) -> str:
        return BUCKET + self.files[number].asset_id

    def find_object(self, path: str) -> StoredFile | None:
        number = self._by_id.get(path.removeprefix(BUCKET)) if path.startswith(BUCKET) else None
        return None if number is None else self.files[number]

    def sign(self, path: str, expires: int, secret: bytes) -> str:
        file = self.find_object(path)
        assert file is not None
        signed = super().sign(path, expires, secret)
        self.issued.add(signed.rpartition("=")[2])
        name = quote(f'attachment; filename="{file.name}"', safe="")
        return signed.replace("?", f"?response-content-disposition={name}&")

    def number_of_asset(self, asset_id: str) -> int | None:
        return self._by_id.get(asset_id)

    def is_twin(self, delivery: int) -> bool:
        return self.has_twins and delivery % 2 == 1

    # --- the documents

    def href(self, file: StoredFile) -> str:
        return f"{self.api_url}/v2/assets/{file.asset_id}"

    def originals(self) -> list[dict[str, Any]]:
        return [self.original(file) for file in self.files if file.scene is None]

    def original(self, file: StoredFile) -> dict[str, Any]:
        return {
            "id": file.asset_id,
            "accountId": identity(8),
            "workspaceId": self.workspace,
            "createdAt": CREATED,
            "updatedAt": CREATED,
            "name": file.name,
            "size": len(file.body),
            "contentType": "application/zip",  # as in the documentation, the type is wrong
            "geospatialMetadataExtractionStatus": "SUCCESSFUL",
            "orderId": None if file.delivery is None else identity(7, file.delivery),
            "source": "ARCHIVE",
            "title": None,
            "tags": None,
        }

    def collection(self, delivery: int) -> dict[str, Any]:
        originals = [file for file in self.files if file.delivery == delivery and file.scene is None]
        own = f"{self.api_url}{STAC}/collections/{identity(6, delivery)}"
        found = {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": identity(6, delivery),
            "title": f"DELIVERY {delivery}",
            "description": "a delivery",
            "license": "proprietary",
            "extent": {"spatial": {"bbox": [[1, 2, 3, 4]]}, "temporal": {"interval": [[CREATED, CREATED]]}},
            "up42-system:workspace_id": self.workspace,
            "up42-order:id": identity(7, delivery),
            "up42-order:status": "FULFILLED",
            "assets": {},
            "links": [link("self", own), link("items", f"{own}/items"), *self.roots()],
        }
        for file in originals:
            found["up42-system:asset_id"] = file.asset_id
            if not self.is_twin(delivery):
                found["assets"] = {file.name: self.asset(file, ["data", "original"])}
        return found

    def roots(self) -> list[dict[str, Any]]:
        return [link("root", f"{self.api_url}{STAC}/"), link("parent", f"{self.api_url}{STAC}/")]

    def asset(self, file: StoredFile, roles: list[str]) -> dict[str, Any]:
        media_type = MEDIA_TYPES[file.suffix]
        return {
            "href": self.href(file),
            "title": "Data",
            "description": None,
            "type": media_type,
            "roles": roles,
        }

    def items(self, delivery: int) -> list[dict[str, Any]]:
        files = [file for file in self.files if file.delivery == delivery]
        scenes = sorted({file.scene for file in files if file.scene is not None})
        return [self.item(delivery, scene, files) for scene in scenes]

    def item(self, delivery: int, scene: int, files: list[StoredFile]) -> dict[str, Any]:
        assets = {
            file.name: self.asset(file, ROLES.get(file.suffix, [])) for file in files if file.scene == scene
        }
        if self.is_twin(delivery):
            assets["data"] = next(self.asset(file, ["data"]) for file in files if file.scene is None)
        elsewhere = f"http://localhost:{self.stranger.server_port}/elsewhere.tiff"
        assets["elsewhere"] = {"href": elsewhere, "type": "image/tiff", "roles": ["data"]}
        return {
            "type": "Feature",
            "stac_version": "1.0.0",
            "id": f"scene-{scene}",
            "collection": identity(6, delivery),
            "bbox": [1, 2, 3, 4],
            "geometry": {"type": "Point", "coordinates": [1, 2]},
            "properties": {"datetime": CREATED, "up42-system:workspace_id": self.workspace},
            "assets": assets,
            "links": self.roots(),
        }

    def job(self, number: int) -> dict[str, Any]:
        return {
            "processID": "pansharpening",
            "jobID": identity(9, number),
            "accountID": identity(8),
            "workspaceID": self.workspace,
            "definition": {"inputs": {"title": f"job {number}"}},
            "results": {"collection": f"{self.api_url}{STAC}/collections/{identity(6, number)}"},
            "creditConsumption": {"credits": 1},
            "status": "captured",
            "created": "2024-02-29T09:50:16.390123456Z",
            "started": CREATED,
            "finished": CREATED,
            "updated": CREATED,
        }

    def order(self, delivery: int) -> dict[str, Any]:
        return {
            "id": identity(7, delivery),
            "workspaceId": self.workspace,
            "type": "ARCHIVE",
            "status": "FULFILLED",
            "displayName": f"order {delivery}",
            "createdAt": CREATED,
            "updatedAt": CREATED,
        }


class TodayHandler(Handler):
    origin: TodayOrigin

    def _answer(self, path: str, query: dict[str, list[str]], fault: Fault | None) -> None:
        if self.server_name_here == "storage":
            self._storage(path, query, fault)
        elif stored := self.origin.find_object(path):
            self._stored(stored, fault)
        elif path == f"{REALM}/token":
            self._log_in()
        elif self.server_name_here == "api" and not self._may():
            self._say(401, b'{"title": "Unauthorized", "status": 401}')
        elif path == f"{REALM}/userinfo":
            self._json({"sub": self.origin.workspace})
        elif path.startswith(STAC):
            self._stac(path.removeprefix(STAC).strip("/").split("/"), query)
        else:
            self._rest(path.strip("/").split("/")[1:], query)

    def _log_in(self) -> None:
        form = {name: values[0] for name, values in parse_qs(self.body.decode()).items()}
        if form.get("grant_type") != "password" or form.get("client_id") not in ("up42-api", "up42-sdk"):
            self._say(400, b'{"error": "invalid_client"}')
        elif (form.get("username"), form.get("password")) != (self.origin.username, self.origin.password):
            self._say(401, b'{"error":"invalid_grant","error_description":"Invalid user credentials"}')
        else:
            token = f"opaque-{time.time() + self.origin.token_lifetime_s:.6f}"
            self.origin.issued.add(token)
            lifetime_s = int(self.origin.token_lifetime_s)
            self._json({"access_token": token, "token_type": "Bearer", "expires_in": lifetime_s})

    def _rest(self, steps: list[str], query: dict[str, list[str]]) -> None:
        origin = self.origin
        match steps:
            case ["assets"]:
                self._numbered(origin.originals(), query)
            case ["orders"]:
                self._numbered([origin.order(one) for one in origin.deliveries], query)
            case ["orders", order_id] if order_id in {identity(7, one) for one in origin.deliveries}:
                self._json(next(one for one in map(origin.order, origin.deliveries) if one["id"] == order_id))
            case ["processing", "jobs"]:
                jobs = [origin.job(number) for number in origin.deliveries[:3]]
                self._linked(
                    "jobs", jobs, query.get("token"), lambda token: f"/v2/processing/jobs?token={token}"
                )
            case ["assets", asset_id, "metadata"] if self._number(asset_id) is not None:
                self._json(origin.original(origin.files[self._number(asset_id) or 0]))
            case ["assets", asset_id, "download-url"] if self._number(asset_id) is not None:
                self._json({"url": origin.url_of(self._number(asset_id) or 0)})
            case _:
                self._say(404, b'{"title": "Not Found", "status": 404}')

    def _number(self, asset_id: str) -> int | None:
        return self.origin.number_of_asset(asset_id)

    def _stac(self, steps: list[str], query: dict[str, list[str]]) -> None:
        origin = self.origin
        deliveries = {identity(6, one): one for one in origin.deliveries}
        collections = f"{origin.api_url}{STAC}/collections"
        match steps:
            case [""]:
                self._json(self._catalog())
            case ["collections"]:
                found = [origin.collection(one) for one in origin.deliveries]
                self._linked(
                    "collections", found, query.get("token"), lambda token: f"{collections}?token={token}"
                )
            case ["collections", name] if name in deliveries:
                self._json(origin.collection(deliveries[name]))
            case ["collections", name, "items"] if name in deliveries:
                following = f"{collections}/{name}/items"
                items = origin.items(deliveries[name])
                self._linked(
                    "features", items, query.get("token"), lambda token: f"{following}?token={token}"
                )
            case ["search"] if self.command == "POST":
                self._search(deliveries)
            case _:
                self._say(404, b'{"code": "NotFoundError", "description": "not found"}')

    def _catalog(self) -> dict[str, Any]:
        root = f"{self.origin.api_url}{STAC}"
        conforms = ["core", "collections", "ogcapi-features", "item-search"]
        return {
            "type": "Catalog",
            "id": "up42-storage",
            "stac_version": "1.0.0",
            "description": "storage",
            "conformsTo": [f"https://api.stacspec.org/v1.0.0-rc.1/{name}" for name in conforms],
            "links": [
                link("self", f"{root}/"),
                link("root", f"{root}/"),
                link("data", f"{root}/collections"),
                link("search", f"{root}/search", method="POST"),
            ],
        }

    def _search(self, deliveries: dict[str, int]) -> None:
        asked = json.loads(self.body or b"{}")
        if not set(asked) <= {"collections", "limit", "token"}:
            self._say(400, b'{"code": "InvalidParameter"}')
            return
        names = asked.get("collections", list(deliveries))
        items = [item for name in names if name in deliveries for item in self.origin.items(deliveries[name])]
        search = f"{self.origin.api_url}{STAC}/search"
        token = [asked["token"]] if "token" in asked else None
        self._linked("features", items, token, lambda token: search, body=asked)

    def _numbered(self, entries: list[dict[str, Any]], query: dict[str, list[str]]) -> None:
        """Send a page. From the second page on, pages shift by one, as if entries were deleted."""
        number = int(query.get("page", ["0"])[0])
        begin = max(0, number * PAGE - number)
        pages = 1 + max(0, -(-(len(entries) - PAGE) // (PAGE - 1)))
        content = entries[begin : begin + PAGE]
        self._json({"content": content, "totalPages": pages, "totalElements": len(entries), "number": number})

    def _linked(
        self,
        key: str,
        entries: list[dict[str, Any]],
        token: list[str] | None,
        following: Callable[[str], str],
        body: dict[str, Any] | None = None,
    ) -> None:
        """Send a page. A page repeats the last entry of the page before it."""
        begin = int(token[0].removeprefix("next:")) if token else 0
        links = []
        if begin + PAGE < len(entries):
            mark = f"next:{begin + PAGE - 1}"
            more = {"method": "GET"} if body is None else {"method": "POST", "body": {**body, "token": mark}}
            href = following(mark)
            if self.origin.has_plain_links:
                href = href.replace("https://", "http://")
            links = [link("next", href, **more)]
        kind = {"type": "FeatureCollection"} if key == "features" else {}
        self._json({**kind, key: entries[begin : begin + PAGE], "links": links})
