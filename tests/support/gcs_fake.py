"""
A store with the part of the XML API of Google Cloud Storage that the client uses.

It is not checked against GCS.
"""

import base64
import hashlib
import itertools
import re
import ssl
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from pathlib import Path
from urllib.parse import unquote
from xml.sax.saxutils import escape

from aiohttp import web

from support.thread_server import serve_in_thread

TOKEN = "GCSTOKEN"
CA_FILE = Path(__file__).with_name("store_ca.pem")
_LIST_KEYS = 1000


@dataclass
class StoredObject:
    data: bytes
    headers: dict
    generation: int
    modified_at: datetime = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0))

    @property
    def etag(self):
        return f'"{hashlib.sha256(self.data + str(self.generation).encode()).hexdigest()}"'

    def response_headers(self):
        return {
            **self.headers,
            "ETag": self.etag,
            "x-goog-generation": str(self.generation),
            "Last-Modified": format_datetime(self.modified_at, usegmt=True),
        }


class GcsFake:
    """
    Buckets with objects in memory.

    Attributes:
        buckets: Objects by key, for each bucket.
        requests: Method and path with query of each request.
        fault: Receives method and path with query. Can wait, and can return a response.
        uploads: The parts of multipart uploads that are neither complete nor removed, by ID.
    """

    def __init__(self):
        self.url = ""
        self.buckets = {"outputs": {}}
        self.requests = []
        self.fault = None
        self.uploads = {}
        self._generations = itertools.count(1)

    def env(self):
        """Return the variables of a client. The addresses of the metadata server must never be used."""
        return {
            "GOOGLE_BASE_URL": self.url,
            "GOOGLE_BEARER_TOKEN": TOKEN,
            "GCE_METADATA_HOST": "127.0.0.1:9",
            "GCE_METADATA_IP": "127.0.0.1:9",
        }

    async def handle(self, request):
        self.requests.append((request.method, request.raw_path))
        body = await request.read()
        if self.fault is not None and (response := await self.fault(request.method, request.raw_path)):
            return response
        return self._respond(request, body)

    def _respond(self, request, body):
        bucket, _, raw_key = request.raw_path.partition("?")[0].lstrip("/").partition("/")
        objects, key, query = self.buckets.get(unquote(bucket)), unquote(raw_key), request.query
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _error(401, "AuthenticationRequired")
        if objects is None:
            return _error(404, "NoSuchBucket")
        if not key:
            return self._list(objects, query) if request.method == "GET" else _error(400, "InvalidArgument")
        if "uploads" in query or "uploadId" in query:
            return self._upload(objects, key, request, body)
        if request.method == "PUT":
            return self._put(objects, key, request, body)
        if key not in objects:
            return _error(404, "NoSuchKey")
        if request.method == "DELETE":
            del objects[key]
            return web.Response(status=204)
        return _read(objects[key], request)

    def _put(self, objects, key, request, body):
        headers, source = _stored_headers(request), request.headers.get("x-goog-copy-source")
        if source is not None:
            bucket, _, source_key = unquote(source).lstrip("/").partition("/")
            copied = self.buckets.get(bucket, {}).get(source_key)
            if copied is None:
                return _error(404, "NoSuchKey")
            body, headers = copied.data, copied.headers
        return self._store(objects, key, request, body, headers)

    def _store(self, objects, key, request, data, headers):
        expected = request.headers.get("x-goog-if-generation-match")
        actual = objects[key].generation if key in objects else 0
        if expected is not None and int(expected) != actual:
            return _error(412, "PreconditionFailed")
        stored = objects[key] = StoredObject(data, headers, next(self._generations))
        text = _element("CompleteMultipartUploadResult", _element("ETag", escape(stored.etag)))
        return web.Response(
            text=text, headers={**stored.response_headers(), "Content-Type": "application/xml"}
        )

    def _upload(self, objects, key, request, body):
        if "uploads" in request.query and request.method == "POST":
            upload_id = base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")[:20] + str(
                next(self._generations)
            )
            self.uploads[upload_id] = (key, _stored_headers(request), {})
            text = _element("InitiateMultipartUploadResult", _element("UploadId", upload_id))
            return web.Response(text=text, content_type="application/xml")
        upload = self.uploads.get(request.query["uploadId"])
        if upload is None or upload[0] != key:
            return _error(404, "NoSuchUpload")
        parts = upload[2]
        if request.method == "PUT":
            etag = f'"{hashlib.sha256(body).hexdigest()}"'
            parts[int(request.query["partNumber"])] = (body, etag)
            return web.Response(headers={"ETag": etag})
        if request.method == "DELETE":
            del self.uploads[request.query["uploadId"]]
            return web.Response(status=204)
        named = re.findall(r"<PartNumber>(\d+)</PartNumber>|<ETag>(.*?)</ETag>", body.decode())
        numbers = [int(number) for number, _ in named if number]
        if numbers != sorted(parts):
            return _error(400, "InvalidPart")
        del self.uploads[request.query["uploadId"]]
        data = b"".join(parts[number][0] for number in numbers)
        return self._store(objects, key, request, data, upload[1])

    def _list(self, objects, query):
        prefix = query.get("prefix", "")
        after = max(query.get("start-after", ""), query.get("continuation-token", ""))
        limit = min(int(query.get("max-keys", _LIST_KEYS)), _LIST_KEYS)
        keys = sorted(key for key in objects if key.startswith(prefix) and key > after)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(objects[key].data)}</Size>"
            f"<LastModified>{objects[key].modified_at.isoformat().replace('+00:00', 'Z')}</LastModified>"
            f"<ETag>{escape(objects[key].etag)}</ETag></Contents>"
            for key in keys[:limit]
        )
        token = (
            f"<NextContinuationToken>{escape(keys[limit - 1])}</NextContinuationToken>"
            if keys[limit:]
            else ""
        )
        return web.Response(
            text=f"<ListBucketResult>{token}{contents}</ListBucketResult>", content_type="application/xml"
        )


def _read(stored, request):
    headers = stored.response_headers()
    match = request.headers.get("If-Match")
    if match is not None and match != stored.etag:
        return _error(412, "PreconditionFailed")
    since = request.headers.get("If-Unmodified-Since")
    if since is not None and stored.modified_at > parsedate_to_datetime(since):
        return _error(412, "PreconditionFailed")
    size, byte_range = len(stored.data), re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range", ""))
    if byte_range is None:
        if request.method == "HEAD":
            return web.Response(headers={**headers, "Content-Length": str(size)})
        return web.Response(body=stored.data, headers=headers)
    start, end = int(byte_range[1]), min(int(byte_range[2] or size - 1), size - 1)
    if start >= size:
        return _error(416, "InvalidRange")
    headers["Content-Range"] = f"bytes {start}-{end}/{size}"
    return web.Response(status=206, body=stored.data[start : end + 1], headers=headers)


def _stored_headers(request):
    return {
        name: text
        for name, text in request.headers.items()
        if name.lower() == "content-type" or name.lower().startswith("x-goog-meta-")
    }


def _element(name, content):
    return f"<{name}>{content}</{name}>"


def _error(status, code):
    text = f"<Error><Code>{code}</Code><Message>from the fake</Message></Error>"
    return web.Response(status=status, text=text, content_type="application/xml")


@contextmanager
def run_gcs_fake(*, tls=False):
    """Yield a store with the empty bucket ``outputs``. With *tls*, only ``CA_FILE`` makes it trusted."""
    fake, context = GcsFake(), None
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CA_FILE.with_name("store_server.pem"))
    with serve_in_thread(fake.handle, ssl=context) as fake.url:
        yield fake
