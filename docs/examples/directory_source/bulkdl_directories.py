"""A source for bulkdl: the directories of a plain HTTP server, such as ``python -m http.server``."""

import html
import json
import re
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from yarl import URL

from bulkdl.content.media_types import checks_for_asset
from bulkdl.disk.filenames import safe_filenames
from bulkdl.errors import ConfigError
from bulkdl.listings import ContainerListing, PlannedOutput, UnreadableContainer
from bulkdl.models import Container, ContainerRef, Output
from bulkdl.source_spec import AutoConcurrency, KindSpec, OutputLabels, SourceSpec
from bulkdl.sources.base import BaseSourceType, open_url

OPTIONS = {"has_names": True, "error_page_types": frozenset()}  # any content type
FILE = KindSpec("file", "a file", AutoConcurrency(4, 16), 1 << 40, checks_for_asset, **OPTIONS)
_LINK = re.compile(r'<a href="([^"?#]+)"')
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # an ID becomes the name of a folder


class DirectorySource:
    def __init__(self, url, context):
        self._url, self._context, self.scopes = url, context, (url.host.replace(".", "-"),)

    async def list_containers(self, scope):
        for name in (name[:-1] for name in await self._read_names(self._url) if name.endswith("/")):
            if _ID.fullmatch(name):
                yield await self.get_container(ContainerRef("directories", scope, name))
            else:
                yield UnreadableContainer(None, f"{name!r} is not a valid ID")

    async def get_container(self, ref):
        names = await self._read_names(self._url / ref.id / "")
        return new_listing(ref, [name for name in names if not name.endswith("/")]).container

    async def list_outputs(self, container, kinds):
        if not container.document:  # the container is from the ledger
            container = await self.get_container(container.ref)
        return new_listing(container.ref, container.document["names"])

    def open_output(self, output):
        return open_url(self._context, f"{self._url / output.container.id}/{quote(output.name, safe='')}")

    async def _read_names(self, url):
        page = (await self._context.sessions.get(url)).decode("utf-8", "replace")
        return [unquote(html.unescape(link), errors="replace") for link in _LINK.findall(page)]


def new_listing(ref, names):
    revision, at = json.dumps(sorted(names)), datetime(1970, 1, 1, tzinfo=UTC)
    container = Container(ref, "LISTED", True, revision, created_at=at, document={"names": names})
    files = safe_filenames(names).items()
    outputs = tuple(PlannedOutput(Output(ref, "", "file", name), file) for name, file in files)
    documents = {SOURCE_TYPE.document_key(ref): json.dumps(names).encode()}
    return ContainerListing(container, outputs, frozenset({"file"}), documents)


class DirectorySourceType(BaseSourceType):
    spec = SourceSpec("directories", OutputLabels("site_id", "directory_id", "part_id"), (FILE,))
    templates = {"directory": "{site_id}/{directory_id}.json", "file": "{site_id}/{directory_id}/{filename}"}
    document_templates = ("directory",)

    @asynccontextmanager
    async def open(self, context):
        url = context.settings.source_settings.get(self.name, {}).get("url")
        if not url:
            raise ConfigError("source_settings.directories.url", "expected the URL of the server")
        yield DirectorySource(URL(url), context)

    def read_listing(self, container, templates, read):  # recreates a lost ledger
        ref = ContainerRef(self.name, container.scope, container.container_id)
        return new_listing(ref, json.loads(read(container.key)))


SOURCE_TYPE = DirectorySourceType()
