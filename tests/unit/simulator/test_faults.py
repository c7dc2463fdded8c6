import json
from pathlib import Path
from typing import Any

import pytest
from multidict import CIMultiDict

from bulkdl.simulator import Faults, FaultScriptError
from bulkdl.simulator.fault_table import FAULTS
from bulkdl.simulator.messages import ReceivedRequest


def call(
    path: str = "/a", *, server: str = "storage", endpoint: str = "object", **headers: str
) -> ReceivedRequest:
    return ReceivedRequest(server, "GET", path, CIMultiDict(headers), endpoint=endpoint)


def fired(faults: Faults, *calls: ReceivedRequest) -> list[int]:
    return [len(faults.select_rules(one)) for one in calls]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({}, [1, 1, 1, 1]),
        ({"nth": 2}, [0, 0, 1, 0]),
        ({"nth": [1, 3]}, [1, 1, 0, 1]),
        ({"first": 2}, [1, 1, 1, 0]),
        ({"every": 2}, [0, 0, 1, 0]),
        ({"nth": 2, "per": "all"}, [0, 1, 0, 0]),
        ({"limit": 3}, [1, 1, 1, 0]),
        ({"probability": 0}, [0, 0, 0, 0]),
        ({"probability": 1.0}, [1, 1, 1, 1]),
        ({"path": "/b*"}, [0, 1, 0, 0]),
        ({"path_regex": "^/[a]$"}, [1, 0, 1, 1]),
        ({"server": "api"}, [0, 0, 0, 0]),
        ({"endpoint": ["object", "token"]}, [1, 1, 1, 1]),
        ({"endpoint": "token"}, [0, 0, 0, 0]),
        ({"method": "POST"}, [0, 0, 0, 0]),
        ({"ranged": True}, [0, 0, 0, 1]),
        ({"ranged": False}, [1, 1, 1, 0]),
        ({"level": "job"}, [0, 0, 0, 0]),
    ],
)
def test_rule_applies_to_matching_requests_only(rule: dict[str, Any], expected: list[int]) -> None:
    faults = Faults.from_rules({"fault": "reset", **rule})
    assert fired(faults, call(), call("/b"), call(), call(Range="bytes=1-")) == expected
    assert faults.applied_counts["reset"] == sum(expected)


def test_rule_probability_does_not_depend_on_the_request_order() -> None:
    def hits(order: list[str]) -> set[tuple[str, int]]:
        faults, count, met = (
            Faults.from_rules({"fault": "reset", "probability": 0.5}, seed=5),
            dict.fromkeys(order, 0),
            set(),
        )
        for path in order:
            count[path] += 1
            if faults.select_rules(call(path)):
                met.add((path, count[path]))
        return met

    assert hits(["/a"] * 20 + ["/b"] * 20) == hits(["/a", "/b"] * 20)
    assert 5 < len(hits(["/a", "/b"] * 20)) < 35


def test_select_rules_returns_matching_rules_in_script_order() -> None:
    faults = Faults.from_rules(
        {"fault": "latency", "seconds": 1}, {"fault": "cut"}, {"fault": "reset", "server": "api"}
    )
    assert [rule.kind.name for rule in faults.select_rules(call())] == ["latency", "cut"]


def test_fault_default_condition_applies_unless_overridden() -> None:
    assert not Faults.from_rules({"fault": "huge_list"}).select_rules(call(server="api", endpoint="jobs"))
    assert Faults.from_rules({"fault": "unauthorized", "endpoint": "token"}).select_rules(
        call(server="api", endpoint="token")
    )


@pytest.mark.parametrize(
    ("rule", "key", "words"),
    [
        ({"fault": "explode"}, "fault", "unknown fault 'explode'"),
        ({}, "fault", "unknown fault None"),
        ({"fault": "cut", "at_bite": 3}, "at_bite", "unknown key for 'cut'"),
        ({"fault": "cut", "at_byte": "3"}, "at_byte", "expected int; got '3'"),
        ({"fault": "cut", "chunked": 1}, "chunked", "expected bool"),
        ({"fault": "drip"}, "bytes_per_s", "needs it"),
        ({"fault": "reset", "nth": 0}, "nth", "whole number from 1"),
        ({"fault": "reset", "probability": 2}, "probability", "from 0 to 1"),
        ({"fault": "reset", "server": "mail"}, "server", "expected one of api, storage"),
        ({"fault": "reset", "endpoint": ["jobs", "x"]}, "endpoint", "expected one of"),
        ({"fault": "reset", "path_regex": "("}, "path_regex", "unterminated"),
        ({"fault": "reset", "ranged": "yes"}, "ranged", "true or false"),
        ({"fault": "throttled", "retry_after": "soon"}, "retry_after", "expected"),
    ],
)
def test_invalid_rule_error_names_its_position(rule: dict[str, Any], key: str, words: str) -> None:
    with pytest.raises(FaultScriptError) as caught:
        Faults.from_rules({"fault": "reset"}, rule)
    assert (caught.value.rule, caught.value.key) == (2, key)
    assert words in str(caught.value)
    assert "rule 2" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "script", ["[1]", '{"rules": []}', '{"rule": 3}', '{"rule": [3]}', '{"seed": "x"}', "{"]
)
def test_unreadable_script_error_names_the_file(script: str, tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text(script)
    with pytest.raises(FaultScriptError, match=r"faults\.json"):
        Faults.load(path)
    with pytest.raises(FaultScriptError, match="cannot be read"):
        Faults.load(tmp_path / "absent.toml")


def test_toml_and_json_scripts_are_equivalent(tmp_path: Path) -> None:
    toml, text = tmp_path / "f.toml", tmp_path / "f.json"
    toml.write_text('seed = 3\n[[rule]]\nfault = "cut"\nat_byte = 5\npath = "*.tgz"\nnth = [1, 2]\n')
    text.write_text(
        json.dumps({"seed": 3, "rule": [{"fault": "cut", "at_byte": 5, "path": "*.tgz", "nth": [1, 2]}]})
    )
    for path in (toml, text):
        faults = Faults.load(path)
        assert faults.seed == 3
        assert fired(faults, call("/x.tgz"), call("/x.zip"), call("/x.tgz"), call("/x.tgz")) == [1, 0, 1, 0]


def test_fault_kind_has_a_meaning_and_one_effect() -> None:
    for kind in FAULTS.values():
        assert kind.meaning
        assert (kind.change_reply is None) != (kind.change_state is None)
