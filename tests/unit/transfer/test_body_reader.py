"""
Tests of the undocumented behaviour of aiohttp on which ``BodyReader`` depends.

``BodyReader.drain_buffered`` reads the bytes that arrived before a connection was lost. aiohttp keeps them in
the stream behind the error. If one of these tests fails with a new aiohttp, ``BodyReader`` must be adapted.
"""

import asyncio
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import StreamReader
from aiohttp.base_protocol import BaseProtocol

from bulkdl.errors import TransferError
from bulkdl.http.rate_limit import RateLimiter
from bulkdl.http.stall import StallDetector
from bulkdl.transfer.context import BodyReader


def stream(limit=2**16):
    loop = asyncio.get_running_loop()
    protocol = BaseProtocol(loop)
    protocol.connection_made(asyncio.Transport())
    return StreamReader(protocol, limit, loop=loop)


async def test_aiohttp_stream_with_an_error_keeps_its_bytes():
    content, error = stream(), aiohttp.ClientPayloadError("cut")
    content.feed_data(b"abc")
    content.set_exception(error)
    with pytest.raises(aiohttp.ClientPayloadError):
        content.read_nowait()
    content.set_exception(None)
    assert content.exception() is None
    assert content.read_nowait() == b"abc"
    assert content.read_nowait() == b""
    content.set_exception(error)
    assert content.exception() is error


async def test_aiohttp_stream_without_an_error_accepts_none_as_exception():
    content = stream()
    content.feed_data(b"abc")
    content.set_exception(None)
    assert content.read_nowait() == b"abc"
    content.feed_data(b"def")
    assert await content.readany() == b"def"


async def test_aiohttp_read_that_is_cancelled_loses_no_bytes():
    content = stream()
    reading = asyncio.ensure_future(content.readany())
    await asyncio.sleep(0)
    reading.cancel()
    content.feed_data(b"abc")
    with pytest.raises(asyncio.CancelledError):
        await reading
    content.set_exception(None)
    assert content.read_nowait() == b"abc"


@asynccontextmanager
async def cut_off(body, after):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body[:after])
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, aiohttp.ClientSession() as session:
        port = server.sockets[0].getsockname()[1]
        async with session.get(f"http://127.0.0.1:{port}/") as response:
            yield response


async def test_drain_buffered_after_a_lost_connection_returns_the_received_bytes():
    async with cut_off(b"x" * 1000, 600) as response:
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.content.wait_eof()
        assert (
            BodyReader(response, "x", StallDetector(0, 1), RateLimiter(0, 1)).drain_buffered() == b"x" * 600
        )
        assert isinstance(response.content.exception(), aiohttp.ClientPayloadError)


class BufferedResponse:
    """A response whose whole body has arrived."""

    def __init__(self, body):
        self.content = stream(2**30)
        self.content.feed_data(body)
        self.content.feed_eof()


async def read_all(reader, timeline, chunks):
    while chunk := await reader.read():
        chunks.append((timeline.now, len(chunk)))


@pytest.mark.parametrize("bytes_per_s", [1_000, 100_000, 10_000_000])
@pytest.mark.parametrize("prefetched", [b"", b"p" * 700])
async def test_readers_that_share_a_limit_never_exceed_it_from_the_start(timeline, bytes_per_s, prefetched):
    size_bytes = bytes_per_s // 2
    limiter = RateLimiter(bytes_per_s, bytes_per_s, clock=timeline.clock, sleep=timeline.sleep)
    readers = [
        BodyReader(BufferedResponse(b"x" * size_bytes), "x", StallDetector(0, 1), limiter, prefetched)
        for _ in range(8)
    ]
    started_at, chunks = timeline.now, []
    await asyncio.gather(*(read_all(reader, timeline, chunks) for reader in readers))
    read_bytes = 0
    for at, chunk_bytes in chunks:
        read_bytes += chunk_bytes
        assert read_bytes <= bytes_per_s * (1 + at - started_at) * 1.000001
    assert read_bytes == 8 * (size_bytes + len(prefetched))
    assert timeline.now - started_at <= read_bytes / bytes_per_s - 1 + 0.5


async def test_read_that_fails_returns_its_bandwidth(timeline):
    limiter = RateLimiter(1000, 1000, clock=timeline.clock, sleep=timeline.sleep)
    async with cut_off(b"x" * 1000, 600) as response:
        reader = BodyReader(response, "x", StallDetector(0, 1), limiter)
        with pytest.raises(TransferError):
            await read_all(reader, timeline, [])
    started_at = timeline.now
    await limiter.acquire(1000)
    assert timeline.now - started_at == pytest.approx(0.6)


async def test_reader_without_a_limit_returns_all_buffered_bytes_at_once():
    reader = BodyReader(BufferedResponse(b"x" * 300_000), "x", StallDetector(0, 1), RateLimiter(0, 1))
    assert [len(await reader.read()), len(await reader.read())] == [300_000, 0]
