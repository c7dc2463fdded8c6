"""Wire the service of ``bulkdl serve``: status page, webhooks, signals, reload and systemd."""

from __future__ import annotations

import asyncio
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

from pydantic import SecretStr

from bulkdl.cli.context import RunRequest, open_exporters
from bulkdl.cli.exit_codes import exit_code_of
from bulkdl.cli.render import show_summary
from bulkdl.cli.run_catalog import catalog_after_service_run
from bulkdl.cli.signals import handle_stop_signals
from bulkdl.cli.source_selection import read_selections
from bulkdl.errors import BulkdlError
from bulkdl.failure_policy import ExitCode
from bulkdl.graph.downloader import Downloader
from bulkdl.log import get_logger
from bulkdl.notify.notifier import Notifier, create_notifier
from bulkdl.redaction import redact, register_secret
from bulkdl.report.summary import Summary
from bulkdl.service.schedule import DailySchedule, IntervalSchedule, Schedule
from bulkdl.service.service import Service, ServicePlan
from bulkdl.service.systemd import SystemdNotifier
from bulkdl.service.webhooks import MAX_BODY_BYTES, PATH, WebhookReceiver
from bulkdl.settings import Settings, format_setting
from bulkdl.settings.credentials import read_secret_file
from bulkdl.settings.hosts import is_loopback
from bulkdl.sources.registry import load_credentials, load_source_type
from bulkdl.telemetry.events import NullReporter, Reporter
from bulkdl.telemetry.web import ServiceViews

log = get_logger(__name__)

# A change of these settings needs a restart.
_FIXED = ("output", "state", "shard", "listen", "metrics_file", "log_format", "verbose", "progress")


class ServiceProcess:
    """
    The service of one process, and its configuration.

    Args:
        read_request: Reads the inputs again for a reload.

    Raises:
        ConfigError: A file with a secret cannot be read.
    """

    def __init__(
        self, request: RunRequest, params: Mapping[str, Any], read_request: Callable[[], RunRequest]
    ) -> None:
        self._request = request
        self._params = params
        self._read_request = read_request
        self._systemd = SystemdNotifier()
        self._service: Service | None = None
        self._reporter: Reporter = NullReporter()
        settings = request.loaded.settings
        self._receiver = WebhookReceiver(
            self._trigger, read_webhook_secret(settings), is_enabled=_accepts_webhooks(settings)
        )

    async def execute(self) -> ExitCode:
        """
        Run the service until a signal stops it, and return the exit code of the process.

        Raises:
            ConfigError: An input or the address is invalid.
        """
        views = ServiceViews(self._document, {PATH: self._receiver.handle}, MAX_BODY_BYTES)
        async with open_exporters(self._request, views) as exporters:
            self._reporter = exporters
            plan = self._create_plan(self._request, _create_schedule(self._settings, -math.inf))
            service = self._service = Service(plan, self._systemd, exporters, exit_code_of)
            self._log_start(service)
            with handle_stop_signals(service.stop), _handle_reload(self._reload):
                code = await service.execute()
            log.info("serve.stopped", exit_code=int(code), runs=service.history.total)
            return code

    @property
    def _settings(self) -> Settings:
        return self._request.loaded.settings

    def _trigger(self) -> None:
        if self._service is not None:
            self._service.trigger()

    def _document(self) -> Mapping[str, object]:
        if self._service is None:
            return {}
        counts = self._receiver.counts
        webhooks = {
            "is_enabled": self._receiver.is_enabled,
            "is_signed": self._receiver.secret is not None,
            "accepted": counts.accepted,
            "duplicates": counts.duplicates,
            "rejected": counts.rejected,
        }
        return {**self._service.document(), "webhooks": webhooks}

    def _create_plan(self, request: RunRequest, schedule: Schedule) -> ServicePlan:
        settings = request.loaded.settings
        return ServicePlan(
            Downloader(settings, credentials=request.credentials, reporter=self._reporter),
            schedule,
            partial(read_selections, self._params, settings),
            partial(self._finish_run, settings, create_notifier(settings)),
        )

    async def _finish_run(
        self, settings: Settings, notifier: Notifier | None, downloader: Downloader, summary: Summary
    ) -> None:
        """Print the summary of a run, write its catalogue, and send its report."""
        show_summary(summary, settings.require_output(), self._params["result_format"])
        if summary.exit_code is ExitCode.CREDENTIALS:
            self._read_credentials_again()
        try:
            await catalog_after_service_run(settings, summary)
        finally:
            if notifier is not None and downloader.report is not None:
                is_stopping = self._service is not None and self._service.is_stopping
                await notifier.send(downloader.report, is_stopping=is_stopping)

    def _log_start(self, service: Service) -> None:
        state = service.document()
        log.info("serve.started", schedule=state["schedule"], next_run_at=state["next_run_at"])
        if self._settings.listen is not None and not self._receiver.is_enabled:
            log.warning(
                "serve.webhooks_disabled",
                hint="set --webhook-secret-file, or --allow-unsigned-webhooks in a trusted network",
            )

    def _read_credentials_again(self) -> None:
        """Use the credentials in files that were replaced after the start, from the next run on."""
        service, settings = self._service, self._settings
        if service is None or service.is_stopping:
            return
        try:
            source_types = [load_source_type(name) for name in settings.source_names]
            credentials = load_credentials(source_types, settings)
        except BulkdlError as error:
            log.warning("serve.credentials_not_read", detail=redact(str(error)))
            return
        if credentials != self._request.credentials:
            self._use(replace(self._request, credentials=credentials), service)

    def _use(self, request: RunRequest, service: Service) -> None:
        """
        Use *request* from the next run on.

        Raises:
            ConfigError: A file with a secret cannot be read, or the plan of a run cannot be created.
        """
        settings = request.loaded.settings
        secret = read_webhook_secret(settings)
        schedule = _create_schedule(settings, service.last_start_s)
        plan = self._create_plan(request, schedule)
        for each in request.credentials.secrets():
            register_secret(each)
        self._request = request
        self._receiver.secret, self._receiver.is_enabled = secret, _accepts_webhooks(settings)
        service.replace_plan(plan)

    def _reload(self) -> None:
        """Read the configuration again. An invalid one is reported, and the current one stays."""
        service = self._service
        if service is None or service.is_stopping:
            return
        self._systemd.reloading()
        try:
            self._use(_keep_fixed_settings(self._read_request(), self._request), service)
        except BulkdlError as error:
            detail = redact(" ".join(str(error).split()))
            log.error("serve.reload_failed", detail=detail)  # noqa: TRY400 - one line
            self._systemd.ready("the new configuration is invalid; the previous one stays")
        else:
            self._systemd.ready("the next run uses the new configuration")


def _keep_fixed_settings(request: RunRequest, current: RunRequest) -> RunRequest:
    """Return *request* with the settings of *current* that only a restart changes."""
    new, old = request.loaded.settings, current.loaded.settings
    fixed = {key: getattr(old, key) for key in _FIXED if getattr(new, key) != getattr(old, key)}
    if fixed:
        log.warning("serve.restart_required", settings=",".join(fixed))
    return replace(request, loaded=replace(request.loaded, settings=new.model_copy(update=fixed)))


def _create_schedule(settings: Settings, last_start_s: float) -> Schedule:
    if settings.at:
        return DailySchedule(settings.at, lambda: datetime.now(UTC))
    text = format_setting("every", settings.every)
    return IntervalSchedule(settings.every, text, time.monotonic, last_start_s=last_start_s)


def read_webhook_secret(settings: Settings) -> SecretStr | None:
    """
    Return the secret of the webhooks, or None without one. Logs do not show it.

    Raises:
        ConfigError: The file cannot be read.
    """
    path = settings.webhook_secret_file
    if path is None:
        return None
    secret = read_secret_file("--webhook-secret-file", path)
    register_secret(secret)
    return SecretStr(secret)


def _accepts_webhooks(settings: Settings) -> bool:
    """Return whether events are accepted: signed ones, or any on loopback or if the user allows it."""
    if settings.webhook_secret_file is not None or settings.allow_unsigned_webhooks:
        return True
    return settings.listen is not None and is_loopback(settings.listen.host)


@contextmanager
def _handle_reload(reload: Callable[[], None]) -> Iterator[None]:
    """Call *reload* in the event loop after each SIGHUP."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
