"""Run the storage source with canary secrets, every fault and -vv, and search all output for the canaries."""

import json
from collections import Counter

import pytest

from bulkdl.simulator import Faults, SimulatedAccount, Simulator, SimulatorOptions
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.routes import LEGACY_ENDPOINTS
from bulkdl.simulator.v2.deliveries import StorageOptions
from support.canaries import Canaries, read_everything_below
from support.fault_runs import RecordingFaults
from support.storage_account import StorageAccount

PASSWORD = "canary-password-x7Gq"
ABROAD = "/away?Signature=canary-redirect-9Zk"
LISTS = ["assets", "collections", "search", "items"]
SIGNING, OBJECT = "download_url", "object"
# The endpoint that a fault is applied to, and parameters that it requires or that shorten it.
PARAMETERS: dict[str, dict[str, object]] = {
    "down": {"seconds": 0.005, "server": "storage"},
    "drip": {"bytes_per_s": 50_000_000, "endpoint": OBJECT},
    "endless": {"extra_bytes": 2_000, "endpoint": OBJECT},
    "huge_list": {"size_bytes": 300_000, "endpoint": "search"},
    "hostile_names": {"endpoint": "search"},
    "latency": {"seconds": 0.0},
    "redirect": {"endpoint": [SIGNING, OBJECT]},
    "slow_headers": {"bytes_per_s": 2_000.0, "endpoint": SIGNING},
    "status": {"status": 500, "endpoint": SIGNING},
    "unauthorized": {"endpoint": SIGNING},
    "revoke_tokens": {"endpoint": SIGNING},
    "unsatisfiable": {"ranged": True, "endpoint": OBJECT},
    "wrong_offset": {"ranged": True, "endpoint": OBJECT},
    "wrong_type": {"field": "url", "endpoint": SIGNING},
    "without": {"headers": ["ETag", "Content-Type"], "server": "storage"},
}
# The default of the other faults by their condition: the endpoint, or the server.
FIRST_OF_RANGED = {"unsatisfiable": 1, "wrong_offset": 2, "ignore_range": 3}


def is_of_today(name: str) -> bool:
    """Return whether a fault applies to today's API."""
    endpoints = FAULTS[name].condition.get("endpoint")
    listed = [endpoints] if isinstance(endpoints, str) else endpoints
    return "endpoint" in PARAMETERS.get(name, {}) or not listed or not set(listed) <= set(LEGACY_ENDPOINTS)


TODAY = {name for name in FAULTS if is_of_today(name)}


def every_fault(stranger: Simulator) -> list[dict[str, object]]:
    """Apply each fault once to a request of its endpoint."""
    away = stranger.api_url.replace("127.0.0.1", "localhost")
    more = {
        "redirect": {"location": away + ABROAD},
        "next_link": {"origin": away},
        "foreign_hrefs": {"origin": away},
    }
    cut = {"fault": "cut", "server": "storage", "per": "all", "nth": list(range(1, 21)), "ranged": False}
    rules: list[dict[str, object]] = [cut]
    turn: Counter[str] = Counter()
    for name in sorted(TODAY):
        rule = {
            "fault": name,
            "per": "all",
            **FAULTS[name].condition,
            **PARAMETERS.get(name, {}),
            **more.get(name, {}),
        }
        if "endpoint" not in rule and "server" not in rule:
            rule["endpoint"] = OBJECT
        where = str(rule.get("endpoint", rule.get("server")))
        turn[where] += 1
        rules.append({**rule, "nth": FIRST_OF_RANGED.get(name, 1 + turn[where])})
    return rules


@pytest.fixture
async def account(tmp_path):
    simulated = SimulatedAccount(storage=StorageOptions(assets=28))
    options = SimulatorOptions(password=PASSWORD, page_size=3, max_recorded_requests=None)
    async with Simulator(simulated, options) as simulator:
        yield StorageAccount(tmp_path, simulator)


def read_output(account, *results):
    texts = [text for result in results for text in (result.out, result.err)]
    return "\n".join([*texts, read_everything_below(account.folder)])


def token_recipients(*simulators):
    """Return the servers that received a token."""
    return {
        record.server
        for simulator in simulators
        for record in simulator.requests
        if "Authorization" in record.headers
    }


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_storage_run_with_every_fault_writes_no_secret(account, monkeypatch, log_format):
    async with Simulator(SimulatedAccount(projects=1, jobs=1)) as stranger:
        canaries = Canaries(account.simulator, monkeypatch, PASSWORD, "canary-redirect-9Zk")
        account.simulator.faults = faults = RecordingFaults.from_rules(*every_fault(stranger))
        short = {
            "BULKDL_API_RESPONSE_MAX_SIZE": "200000",
            "BULKDL_RETRY_AFTER_MAX": "0.01",
            "BULKDL_HEADERS_TIMEOUT": "2",
        }
        flags = ("-vv", "--log-format", log_format, "--retries", "5", "--speed-time", "1")
        results = [await account.bulkdl("run", *flags, **short) for _ in range(2)]
        applied = {name for name, times in faults.applied_counts.items() if times}
        assert applied == TODAY
        assert len(canaries.found) > 100
        written = read_output(account, *results)
        assert "transfer.completed" in written
        assert canaries.seen_in(written) == []
        assert token_recipients(account.simulator) == {"api"}
        assert token_recipients(stranger) == set()


@pytest.mark.parametrize("status", [400, 401, 403, 500])
async def test_storage_run_with_a_rejected_login_quotes_no_secret(account, status):
    """The server returns the password in its response, and -vv prints tracebacks."""
    described = f"no user with the password {PASSWORD}"
    body = json.dumps({"error": "invalid_grant", "error_description": described})
    rule = {"fault": "status", "status": status, "body": body, "endpoint": "login"}
    account.simulator.faults = Faults.from_rules(rule)
    result = await account.bulkdl("run", "-vv", "--retries", "0")
    assert result.code == (5 if status == 500 else 7)
    assert PASSWORD not in read_output(account, result)


async def test_storage_run_with_a_token_in_an_error_quotes_no_secret(account, monkeypatch):
    """The server returns the token in its response."""
    canaries = Canaries(account.simulator, monkeypatch, PASSWORD)
    token = account.simulator._tokens._issue(None)
    body = json.dumps({"title": f"the token {token} has no access", "status": 403})
    rules = [
        {"fault": "status", "status": 403, "body": body, "endpoint": name} for name in ("search", SIGNING)
    ]
    account.simulator.faults = Faults.from_rules(*rules)
    env = {"UP42_USERNAME": "", "UP42_PASSWORD": "", "UP42_TOKEN": token}
    result = await account.run("-vv", "--retries", "0", **env)
    assert result.code in (3, 7), result
    assert canaries.seen_in(read_output(account, result)) == []


async def test_storage_commands_after_a_run_print_no_secret(account, monkeypatch):
    canaries = Canaries(account.simulator, monkeypatch, PASSWORD)
    results = [
        await account.bulkdl(command, "-vv") for command in ("run", "status", "verify", "config", "plan")
    ]
    assert {result.code for result in results} == {0}
    assert len(canaries.found) > 100
    assert canaries.seen_in(read_output(account, *results)) == []
