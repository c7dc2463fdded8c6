"""``bulkdl webhooks``: register the service at UP42, so that new outputs start a run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click

from bulkdl.cli import options
from bulkdl.cli.context import read_settings
from bulkdl.cli.help import Command, Group
from bulkdl.cli.render import write_json, write_lines, write_table
from bulkdl.cli.serve_process import read_webhook_secret
from bulkdl.cli.signals import run_interruptible
from bulkdl.errors import ConfigError
from bulkdl.failure_policy import ExitCode
from bulkdl.redaction import register_secret
from bulkdl.service.registration import Change, RegisteredWebhook, Registration, open_registration
from bulkdl.settings import Settings, load_account_credentials
from bulkdl.settings.hosts import is_insecure, split_url
from bulkdl.sources.up42_storage.webhooks import MAX_SECRET_CHARS
from bulkdl.telemetry.console_logging import log_to_console
from bulkdl.telemetry.consoles import create_stderr_console

Work = Callable[[Registration], Awaitable[list[RegisteredWebhook]]]
_HEADER = ("account", "workspace", "webhook", "url", "events", "state")
_URL_HELP = "public URL of the service: https://HOST/webhooks/up42"


def _url(*, required: bool) -> Callable[[Any], Any]:
    return options.option(
        "--url",
        metavar="URL",
        required=required,
        envvar="BULKDL_WEBHOOK_URL",
        help=_URL_HELP,
        group=Group.SERVICE,
    )


@click.group()
def webhooks() -> None:
    """
    Register bulkdl serve at UP42, so that UP42 reports finished orders and jobs to it.

    A webhook belongs to one workspace. By default, the commands use all workspaces of the accounts that have
    deliveries, orders or processing jobs. They need the credentials of an account.
    """


@webhooks.command(cls=Command, example="bulkdl webhooks add --url https://bulkdl.example.com/webhooks/up42")
@_url(required=True)
@options.webhook_secret
@options.workspace
@options.result_format("table", "json")
@options.common(progress=False)
def add(url: str, **params: Any) -> int:
    """Create a webhook in each workspace. An existing one with this URL gets the secret and is activated."""
    settings = read_settings(params).settings
    check_public_url(url, allow_http=settings.allow_http)
    secret = read_webhook_secret(settings)
    if secret is not None and len(secret.get_secret_value()) > MAX_SECRET_CHARS:
        raise ConfigError("--webhook-secret-file", f"expected at most {MAX_SECRET_CHARS} characters")
    return _execute(settings, params, lambda registration: registration.add(url, secret))


@webhooks.command("list", cls=Command, example="bulkdl webhooks list --format json")
@_url(required=False)
@options.workspace
@options.result_format("table", "json")
@options.common(progress=False)
def list_command(url: str | None, **params: Any) -> int:
    """List the webhooks of all workspaces, or those with --url."""
    settings = read_settings(params).settings
    return _execute(settings, params, lambda registration: registration.list_webhooks(url))


@webhooks.command(cls=Command, example="bulkdl webhooks test --url https://bulkdl.example.com/webhooks/up42")
@_url(required=True)
@options.workspace
@options.result_format("table", "json")
@options.common(progress=False)
def test(url: str, **params: Any) -> int:
    """Let UP42 send test events. The exit code is 5 if an event was not accepted."""
    settings = read_settings(params).settings
    return _execute(settings, params, lambda registration: registration.test(url))


@webhooks.command(
    cls=Command, example="bulkdl webhooks remove --url https://bulkdl.example.com/webhooks/up42"
)
@_url(required=True)
@options.workspace
@options.result_format("table", "json")
@options.common(progress=False)
def remove(url: str, **params: Any) -> int:
    """Delete the webhooks with this URL."""
    settings = read_settings(params).settings
    return _execute(settings, params, lambda registration: registration.remove(url))


def check_public_url(url: str, *, allow_http: bool) -> None:
    """
    Check the URL of a webhook before UP42 receives it.

    Raises:
        ConfigError: It is not a URL with https.
    """
    parts = split_url(url)
    if parts is None or parts.username or not url.isprintable():
        raise ConfigError("--url", "expected a URL such as https://bulkdl.example.com/webhooks/up42")
    if is_insecure(parts) and not allow_http:
        raise ConfigError("--url", "expected https://, which UP42 requires")


def _execute(settings: Settings, params: dict[str, Any], work: Work) -> int:
    """Execute *work* with the accounts of *settings*, and print the webhooks."""
    credentials = load_account_credentials(settings)
    for secret in credentials.secrets():
        register_secret(secret)

    async def execute() -> list[RegisteredWebhook]:
        async with open_registration(settings, credentials, settings.workspace) as registration:
            return await work(registration)

    with log_to_console(create_stderr_console(), settings.log_format, max(settings.verbose - 1, -2)):
        found = asyncio.run(run_interruptible(execute))
    _show(found, params["result_format"])
    failed = [entry for entry in found if entry.tests is not None and entry.tests[0] < entry.tests[1]]
    return int(ExitCode.TEMPORARY if failed else ExitCode.OK)


def _show(found: Sequence[RegisteredWebhook], result_format: str) -> None:
    if result_format == "json":
        write_json([entry.as_dict() for entry in found])
    elif not found:
        write_lines("no webhooks found; select a workspace without outputs with --workspace")
    else:
        write_table(_HEADER, [_row(entry) for entry in found])


def _row(entry: RegisteredWebhook) -> tuple[str, ...]:
    webhook = entry.webhook
    if entry.tests is not None:
        state = f"{entry.tests[0]} of {entry.tests[1]} test events accepted"
    elif entry.change is Change.FOUND:
        state = "active" if webhook.is_active else "inactive"
    else:
        state = entry.change.value
    return entry.account, webhook.workspace_id, webhook.id, webhook.url, ",".join(webhook.events), state
