"""Test notifications with real commands and real servers."""

import asyncio
import json
import os
import ssl
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import ValidationError

from bulkdl.errors import ConfigError
from bulkdl.notify.command import run_command
from bulkdl.notify.errors import NotificationError
from bulkdl.notify.notifier import create_notifier
from bulkdl.redaction import redact
from bulkdl.settings import Settings
from support.virtual_time import use_virtual_clock

REPORT = json.dumps({"run_id": "r1", "padding": "ä" * 200_000})
VALUE = "Bearer cAnArY-9f8e7d"


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def notifier(env=None, **table):
    return create_notifier(Settings(notify=table), {**os.environ, **(env or {})})


class Receiver:
    """A server that records requests, and returns the prepared statuses."""

    def __init__(self, *statuses, location=None):
        self.statuses, self.location = list(statuses), location
        self.requests = []
        self.url = ""
        self.hold = None

    async def handle(self, request):
        self.requests.append((dict(request.headers), await request.text()))
        if self.hold is not None:
            await self.hold.wait()
        status = self.statuses.pop(0) if self.statuses else 204
        headers = {"Location": self.location} if self.location else {}
        return web.Response(status=status, headers=headers, text="" if status == 204 else "no\nthanks")


@asynccontextmanager
async def running(receiver, tls=None):
    app = web.Application(client_max_size=8 << 20)
    app.router.add_post("/{path:.*}", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    receiver.url = f"http{'s' if tls else ''}://localhost:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


async def test_command_reads_the_report_without_credentials_in_its_environment(tmp_path):
    path = tmp_path / "out.json"
    code = "import json,os,sys; json.dump([sys.stdin.read(), dict(os.environ)], open(sys.argv[1], 'w'))"
    env = {"UP42_PASSWORD": "p", "UP42_TOKEN": "t", "ALERTS": VALUE, "KEPT": "yes"}
    table = {"command": [*python(code), str(path)], "url": "http://127.0.0.1:1/", "header_env": "ALERTS"}
    await notifier(env, **table).send(REPORT)
    report, environment = json.loads(path.read_text())
    assert report == REPORT
    assert environment["KEPT"] == "yes"
    assert not {"UP42_PASSWORD", "UP42_TOKEN", "ALERTS"} & environment.keys()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/nowhere/missing"], "/nowhere/missing cannot be started: No such file"),
        (python("import sys; sys.exit('went wrong')"), "ended with exit code 1: went wrong"),
        (python("import os; os.kill(os.getpid(), 9)"), "ended with exit code -9"),
        (python("import sys; sys.stderr.write('x' * 10_000_000 + 'end'); sys.exit(3)"), "exit code 3"),
    ],
)
async def test_command_failure_is_reported(command, expected):
    with pytest.raises(NotificationError, match=expected):
        await run_command(command, REPORT.encode(), os.environ, 60)


async def test_command_that_does_not_read_the_report_succeeds():
    await run_command(python("pass"), REPORT.encode(), os.environ, 60)


async def test_command_beyond_the_time_limit_is_killed_with_its_children(tmp_path):
    path = tmp_path / "pids"
    code = (
        "import os,signal,sys,time; signal.signal(15, signal.SIG_IGN); pid = os.fork();"
        "open(sys.argv[1], 'a').write(f'{os.getpid()} '); time.sleep(3600)"
    )
    with pytest.raises(NotificationError, match="did not end within 1 s"):
        await run_command([*python(code), str(path)], b"", os.environ, 1)
    assert all(is_gone(int(pid)) for pid in path.read_text().split())


def is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


async def test_post_sends_the_report_with_the_header():
    async with running(Receiver()) as receiver:
        table = {"url": receiver.url, "header": "X-Key", "header_env": "ALERTS"}
        await notifier({"ALERTS": VALUE}, **table).send(REPORT)
        ((headers, body),) = receiver.requests
        assert body == REPORT
        assert (headers["X-Key"], headers["Content-Type"]) == (VALUE, "application/json")
    assert VALUE not in redact(f"a text with {VALUE}")


@pytest.mark.parametrize(
    ("statuses", "requests", "is_sent"),
    [((503, 429, 200), 3, True), ((500, 500, 500, 200), 3, False), ((403, 200), 1, False)],
)
async def test_post_is_repeated_after_a_temporary_failure_only(
    statuses, requests, is_sent, caplog, monkeypatch
):
    use_virtual_clock(monkeypatch)
    async with running(Receiver(*statuses)) as receiver:
        await notifier(url=receiver.url).send(REPORT)
        assert len(receiver.requests) == requests
    assert ("notify.failed" in caplog.text) != is_sent
    if not is_sent:
        assert f"responded with {statuses[0]}: no thanks" in caplog.text
        assert "/hook" not in caplog.text


async def test_post_does_not_follow_a_redirect(caplog):
    async with (
        running(Receiver()) as other,
        running(Receiver(302, location=other.url)) as receiver,
    ):
        await notifier({"ALERTS": VALUE}, url=receiver.url, header_env="ALERTS").send(REPORT)
        assert (len(receiver.requests), other.requests) == (1, [])
    assert "redirects are not followed" in caplog.text


async def test_post_rejects_a_certificate_that_is_not_trusted(caplog, monkeypatch):
    use_virtual_clock(monkeypatch)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).parents[2] / "support" / "localhost.pem")
    async with running(Receiver(), tls=context) as receiver:
        await notifier({"ALERTS": VALUE}, url=receiver.url, header_env="ALERTS").send(REPORT)
        assert receiver.requests == []
    assert "certificate" in caplog.text.lower()


async def test_post_without_response_ends_at_the_time_limit(caplog, monkeypatch):
    clock = use_virtual_clock(monkeypatch)
    started_s = clock.monotonic()
    async with running(Receiver()) as receiver:
        receiver.hold = asyncio.Event()
        await notifier(url=receiver.url, timeout=20).send(REPORT)
        assert 19 < clock.monotonic() - started_s < 21
        await notifier(url=receiver.url, timeout=20).send(REPORT, is_stopping=True)
        assert clock.monotonic() - started_s < 27
        receiver.hold.set()
    assert "did not respond within 20 s" in caplog.text
    assert "did not respond within 5 s" in caplog.text


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"url": "http://example.com/"}, "expected https://"),
        ({"url": "https://user:secretword@example.com/"}, "without user name and password"),
        ({"url": "example.com"}, "expected a URL"),
        ({"header_env": "X"}, "expected url"),
        ({"url": "https://example.com", "header_env": "X", "header_file": "y"}, "not both"),
        ({"url": "https://example.com", "header": "a b"}, "String should match"),
        ({"command": [" "]}, "expected a list of a program"),
        ({"command": ["a\0"]}, "expected a list of a program"),
        ({"url": "https://example.com", "timeout": 0}, "greater than 0"),
    ],
)
def test_settings_invalid_table_is_rejected_without_its_secret(table, expected):
    with pytest.raises(ValidationError, match=expected):
        Settings(notify=table)


def test_notifier_with_an_unset_variable_is_a_config_error():
    with pytest.raises(ConfigError, match=r"notify.header_env: the variable NOT_SET is not set"):
        notifier(url="https://example.com/", header_env="NOT_SET")


def test_notifier_with_a_header_of_several_lines_is_a_config_error(tmp_path):
    path = tmp_path / "header"
    path.write_text("a\nb")
    with pytest.raises(ConfigError, match="not one line"):
        notifier(url="https://example.com/", header_file=path)


def test_settings_show_the_host_of_the_url_only():
    settings = Settings(
        notify={"url": "https://hooks.example.com/T0/secretpath", "command": ["prog", "arg-x"]}
    )
    for text in (
        str(settings.notify),
        repr(settings),
        str(settings.model_dump(mode="json")["notify"]["url"]),
    ):
        assert "secretpath" not in text
    assert "arg-x" not in repr(settings)
    assert str(settings.notify) == "prog,https://hooks.example.com/***"


def test_settings_without_a_table_have_no_notifier():
    assert create_notifier(Settings(), {}) is None
