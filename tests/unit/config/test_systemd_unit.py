"""The systemd unit of the service: its options exist, and its times fit."""

import configparser
import shlex

from bulkdl.cli.serve import serve
from bulkdl.failure_policy import ExitCode
from bulkdl.settings import Settings
from support.manifests import ROOT

UNIT = ROOT / "config" / "systemd" / "bulkdl-serve.service"


def read_unit():
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str
    parser.read(UNIT)
    return parser


def test_unit_has_the_options_of_the_command_and_times_that_fit():
    service = read_unit()["Service"]
    program, command, *args = shlex.split(service["ExecStart"])
    assert (program.rpartition("/")[2], command) == ("bulkdl", "serve")
    flags = {flag for param in serve.params for flag in param.opts}
    assert {arg for arg in args if arg.startswith("-")} <= flags
    assert service["Type"] == "notify"
    assert int(service["TimeoutStopSec"]) >= Settings().shutdown_timeout + 10
    assert int(service["SuccessExitStatus"]) == ExitCode.TERMINATED
    assert int(service["RestartPreventExitStatus"]) == ExitCode.USAGE
    assert int(service["WatchdogSec"]) >= 30
    assert "HUP" in service["ExecReload"]


def test_unit_has_no_secret():
    text = UNIT.read_text("utf-8")
    variables = [line.split("=", 2)[1] for line in text.splitlines() if line.startswith("Environment=")]
    assert sorted(variables) == ["BULKDL_WEBHOOK_SECRET_FILE", "UP42_PASSWORD_FILE", "UP42_USERNAME"]
