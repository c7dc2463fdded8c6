"""
Write replies to sockets.

The headers are written directly. The response class of aiohttp does not permit an incorrect length or a
body beyond its end.
"""

from __future__ import annotations

import asyncio
import math
import socket
import struct
from email.utils import formatdate
from http import HTTPStatus

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from bulkdl.simulator.messages import Reply, RequestRecord

_CHUNK_BYTES = 1 << 18
_PHRASES = {status.value: status.phrase for status in HTTPStatus}


class Sender(web.StreamResponse):
    """
    Adapter that presents a reply to aiohttp as a response and writes it.

    aiohttp closes the connection afterwards unless ``keep_alive`` is set.
    """

    def __init__(self, reply: Reply, seen: RequestRecord) -> None:
        super().__init__(status=reply.status)
        self._reply, self._record = reply, seen
        self._keeps_open = False

    @property
    def keep_alive(self) -> bool | None:
        return self._keeps_open

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        reply, delivery = self._reply, self._reply.delivery
        await asyncio.sleep(delivery.delay_s)
        if delivery.reset:
            _reset(request)
            return None
        old = request.version < (1, 1)
        chunked = not reply.has_content_length and not old
        self._record.status = reply.status
        self._keeps_open = (
            request.keep_alive and not delivery.ends_connection and not (old and not reply.has_content_length)
        )
        await self._write_head(request, chunked)
        if request.method != "HEAD" and reply.status not in {204, 304}:
            await self._write_body(request, chunked)
        if delivery.stop_resets:
            _reset(request)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Do nothing, because ``prepare`` has written the reply."""

    async def _write_head(self, request: web.BaseRequest, chunked: bool) -> None:
        reply = self._reply
        lines = [f"HTTP/1.1 {reply.status} {_PHRASES.get(reply.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in reply.headers]
        lines.append(f"Date: {formatdate(usegmt=True)}")
        if reply.has_content_length and reply.status != 204:
            lines.append(f"Content-Length: {reply.body.size}")
        if chunked:
            lines.append("Transfer-Encoding: chunked")
        if not self._keeps_open:
            lines.append("Connection: close")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8")
        head_bytes_per_s = reply.delivery.head_bytes_per_s
        for chunk in _split(head, 1) if head_bytes_per_s else (head,):
            await request.writer.write(chunk)
            if head_bytes_per_s:
                await asyncio.sleep(1 / head_bytes_per_s)

    async def _write_body(self, request: web.BaseRequest, chunked: bool) -> None:
        delivery, size = self._reply.delivery, self._reply.body.size
        stop = size if delivery.stop_at is None else min(size, delivery.stop_at)
        offset = 0
        while True:
            if offset == delivery.stall_at:
                await asyncio.sleep(delivery.stall_s)
            if offset >= stop:
                break
            end = self._next_end(offset, stop)
            await self._put(request, self._reply.body.read(offset, end), chunked)
            offset = end
        if delivery.stop_at is None:
            await self._write_excess(request, chunked)
            if chunked:
                await request.writer.write(b"0\r\n\r\n")

    async def _write_excess(self, request: web.BaseRequest, chunked: bool) -> None:
        remaining = float(self._reply.delivery.extra_bytes)
        remaining = remaining if remaining >= 0 else math.inf
        while remaining > 0:
            chunk = b"\0" * int(min(_CHUNK_BYTES, remaining))
            await self._put(request, chunk, chunked)
            remaining -= len(chunk)

    def _next_end(self, offset: int, stop: int) -> int:
        delivery = self._reply.delivery
        step = (
            _CHUNK_BYTES
            if not delivery.bytes_per_s
            else max(1, min(_CHUNK_BYTES, int(delivery.bytes_per_s / 20)))
        )
        end = min(offset + step, stop)
        return (
            delivery.stall_at if delivery.stall_at is not None and offset < delivery.stall_at < end else end
        )

    async def _put(self, request: web.BaseRequest, data: bytes, chunked: bool) -> None:
        await request.writer.write(b"%x\r\n%b\r\n" % (len(data), data) if chunked else data)
        self._record.sent_bytes += len(data)
        if self._reply.delivery.bytes_per_s:
            await asyncio.sleep(len(data) / self._reply.delivery.bytes_per_s)


def _reset(request: web.BaseRequest) -> None:
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _split(data: bytes, step: int) -> list[bytes]:
    return [data[offset : offset + step] for offset in range(0, len(data), step)]
