"""Run a handler of HTTP requests in a thread, because tests also use blocking clients in theirs."""

import asyncio
import threading
from contextlib import contextmanager

from aiohttp import web


@contextmanager
def serve_in_thread(handle, opened=None, *, ssl=None):
    """
    Yield the URL of a server on a free port, which passes all requests to *handle*.

    Args:
        opened: An asynchronous context manager that stays open until the server has ended.
        ssl: The SSL context of a server with TLS.
    """
    started, state = threading.Event(), {}

    async def serve():
        state["loop"], state["end"] = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application(client_max_size=1 << 30)
        app.router.add_route("*", "/{path:.*}", handle)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=ssl).start()
        scheme = "https" if ssl else "http"
        state["url"] = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        started.set()
        await state["end"].wait()
        await runner.cleanup()

    async def run():
        if opened is None:
            await serve()
            return
        async with opened():
            await serve()

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="test-server")
    thread.start()
    try:
        assert started.wait(30), "the server did not start"
        yield state["url"]
    finally:
        state["loop"].call_soon_threadsafe(state["end"].set)
        thread.join()
