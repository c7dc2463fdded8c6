from __future__ import annotations

import io
import json
import logging
import warnings

import pytest
import structlog
from rich.console import Console

from bulkdl.log import get_logger
from bulkdl.redaction import Redactor
from bulkdl.sources.up42_jobs.spec import SPEC
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import create_stderr_console
from bulkdl.telemetry.progress import RichProgress

CANARY = "cAnArY-9f8e7d"


def fail_twice():
    try:
        int(CANARY)
    except ValueError as error:
        raise RuntimeError(f"Bearer {CANARY}") from error


def fail_with_a_local(swordfish):
    raise ValueError(len(swordfish))


def pipe() -> Console:
    return Console(file=io.StringIO(), force_terminal=False)


def terminal(**more) -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, **more)


def text_of(console: Console) -> str:
    return console.file.getvalue()


def lines_of(console: Console) -> list[dict]:
    return [json.loads(line) for line in text_of(console).splitlines()]


def test_pipe_output_has_one_json_object_per_line_with_the_context():
    console = pipe()
    with log_to_console(console), structlog.contextvars.bound_contextvars(run_id="r1", job_id="j1"):
        get_logger("bulkdl.x").info("transfer.completed", size_bytes=7, name="ü")
    (line,) = lines_of(console)
    assert line["event"] == "transfer.completed"
    assert line["level"] == "info"
    assert line["logger"] == "bulkdl.x"
    assert (line["run_id"], line["job_id"], line["size_bytes"], line["name"]) == ("r1", "j1", 7, "ü")
    assert line["timestamp"].endswith("Z")


def test_events_of_other_libraries_use_the_same_format():
    console = pipe()
    with log_to_console(console), structlog.contextvars.bound_contextvars(run_id="r1"):
        logging.getLogger("aiohttp.client").warning("slow %s", "host", extra={"host": "h"})
    (line,) = lines_of(console)
    assert line["event"] == "slow host"
    assert (line["logger"], line["run_id"], line["host"]) == ("aiohttp.client", "r1", "h")


@pytest.mark.parametrize(
    ("verbose", "events"),
    [
        (-2, ["ours error"]),
        (-1, ["ours warning", "ours error", "others warning"]),
        (0, ["ours info", "ours warning", "ours error", "others warning"]),
        (1, ["ours debug", "ours info", "ours warning", "ours error", "others warning"]),
        (
            2,
            [
                "ours debug",
                "ours info",
                "ours warning",
                "ours error",
                "others debug",
                "others info",
                "others warning",
            ],
        ),
    ],
)
def test_verbosity_sets_the_levels_of_bulkdl_and_other_loggers(verbose, events):
    console = pipe()
    with log_to_console(console, "json", verbose):
        ours = get_logger("bulkdl.y")
        for level in ("debug", "info", "warning", "error"):
            getattr(ours, level)(f"ours {level}")
        for level in ("debug", "info", "warning"):
            getattr(logging.getLogger("aiohttp"), level)(f"others {level}")
    assert [line["event"] for line in lines_of(console)] == events


@pytest.mark.parametrize(
    ("console", "log_format", "is_json"),
    [
        (pipe, "auto", True),
        (pipe, "console", False),
        (terminal, "auto", False),
        (terminal, "json", True),
    ],
)
def test_format_depends_on_the_console_unless_set(console, log_format, is_json):
    target = console()
    with log_to_console(target, log_format):
        get_logger("bulkdl").info("run.started", n=1)
    assert text_of(target).startswith("{") is is_json


def test_long_json_line_is_not_wrapped_on_a_terminal():
    console = terminal()
    with log_to_console(console, "json"):
        get_logger("bulkdl").info("x" * 500)
    assert len(text_of(console).splitlines()) == 1


def test_no_color_disables_colours(monkeypatch):
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        console = terminal(_environ={"TERM": "xterm-256color", **env})
        with log_to_console(console):
            get_logger("bulkdl").info("run.started")
        assert ("32m" in text_of(console)) is coloured


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_log_lines_do_not_contain_secrets(monkeypatch, log_format):
    redactor = Redactor()
    redactor.register(CANARY)
    monkeypatch.setattr("bulkdl.telemetry.console_logging.redactor", redactor)
    console = pipe()
    with log_to_console(console, log_format, 2):
        log = get_logger("bulkdl.z")
        log.info(CANARY, url=f"https://x/?Signature={CANARY}", headers={"Authorization": f"Basic {CANARY}"})
        log.info("deep", value=[{"a": (CANARY.encode(), {"b": CANARY})}], error=OSError(CANARY))
        with structlog.contextvars.bound_contextvars(key=CANARY):
            logging.getLogger("asyncio").error("%s", CANARY)
        try:
            fail_twice()
        except RuntimeError:
            log.exception("x.failed")
            logging.getLogger("aiohttp.server").exception("Error handling request")
    text = text_of(console)
    assert "Error handling request" in text
    assert "RuntimeError" in text
    assert CANARY not in text


def test_exception_does_not_show_local_variables():
    console = pipe()
    with log_to_console(console, "console"):
        try:
            fail_with_a_local("local-value-" + "of-a-secret")
        except ValueError:
            get_logger("bulkdl").exception("x.failed")
    assert "ValueError: 23" in text_of(console)
    assert "local-value-of-a-secret" not in text_of(console)


def test_library_warnings_are_logged_instead_of_printed(capsys):
    console = pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with log_to_console(console):
            warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    assert "old ways" in text_of(console)
    assert capsys.readouterr().err == ""


def test_stdout_remains_empty(capsys):
    with log_to_console(create_stderr_console({}), "auto"):
        get_logger("bulkdl").info("run.started")
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err)["event"] == "run.started"


def test_closed_stderr_does_not_raise():
    console = pipe()
    with log_to_console(console):
        console.file.close()
        get_logger("bulkdl").info("run.started")


def test_log_to_console_restores_handlers_and_levels():
    root = logging.getLogger()
    before = (root.level, list(root.handlers), logging.getLogger("bulkdl").level)
    with log_to_console(pipe(), "json", 2):
        pass
    assert (root.level, list(root.handlers), logging.getLogger("bulkdl").level) == before
    assert not structlog.is_configured()


def test_log_lines_are_printed_above_the_progress_display():
    console = terminal()
    with log_to_console(console, "console"), RichProgress(console, SPEC.kind_names):
        get_logger("bulkdl").info("run.started")
    lines = text_of(console).splitlines()
    assert any("run.started" in line and "outputs" not in line for line in lines)


@pytest.mark.parametrize("made", [pipe, terminal], ids=["pipe", "terminal"])
def test_console_line_escapes_control_characters(made):
    console = made()
    hostile = "\x1b]0;owned\x07\u202e\x9b31m\nforged line"
    with log_to_console(console, "console"):
        get_logger("bulkdl.x").info("transfer.completed", key=hostile)
        logging.getLogger("aiohttp").warning("closed %s", hostile)
        get_logger("bulkdl.x").error("transfer.bug", exc_info=ValueError(hostile))
    text = text_of(console)
    assert "]0;owned" in text
    assert not any(char in text for char in "\x07\u202e\x9b")
    assert "\x1b]" not in text
    first, second = text.splitlines()[:2]
    assert "forged line" in first
    assert "forged line" in second


def test_json_line_is_exact_and_escaped():
    console = pipe()
    hostile = "\x1b\x9b\u202e\u2028\ud800 ü"
    with log_to_console(console, "json"):
        get_logger("bulkdl.x").info("transfer.completed", key=hostile)
    (line,) = lines_of(console)
    assert line["key"] == hostile
    assert text_of(console).rstrip("\n").isprintable()
