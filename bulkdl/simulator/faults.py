"""
A language of faults: a script of rules, each of which names requests and what they meet.

TOML (or the same as JSON)::

    seed = 7
    [[rule]]
    fault = "cut"            # a name of fault_table.FAULTS; its own keys stand beside
    at_fraction = 0.3
    endpoint = "object"      # which requests: server, endpoint, level, method, path (glob),
    path = "*/output.tgz"    #   path_regex, ranged
    first = 3                # which of those: nth, first, every; counted per "object" (path) or "all";
    per = "object"           #   probability, limit

Bytes are counted in the body of the reply that is sent, so in a ranged one from the range's start;
a negative ``at_byte`` counts from the end.

Every rule counts for itself, and chance is drawn from seed, rule, path and count, so a script meets
the same requests however they interleave. All rules that match apply, in the order of the script.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from bulkdl.simulator.exchange import Call
from bulkdl.simulator.fault_script import FaultScriptError, read_rule
from bulkdl.simulator.fault_table import FaultKind


@dataclass(slots=True)
class Rule:
    """One rule; ``values`` are the fault's own parameters, defaults filled in."""

    number: int
    kind: FaultKind
    values: dict[str, Any]
    where: dict[str, Any]
    _counts: Counter[str] = field(default_factory=Counter)
    _fired: int = 0

    def meets(self, call: Call, seed: int) -> bool:
        """Whether the fault befalls *call*, which is counted by this."""
        if not self._fits(call):
            return False
        key = call.path if self.where.get("per", "object") == "object" else ""
        self._counts[key] += 1
        draw = random.Random(f"{seed}/{self.number}/{key}/{self._counts[key]}").random()
        if not self._is_turn(self._counts[key]) or draw >= self.where.get("probability", 1):
            return False
        if self._fired >= self.where.get("limit", self._fired + 1):
            return False
        self._fired += 1
        return True

    def _fits(self, call: Call) -> bool:
        where = self.where
        pattern: re.Pattern[str] | None = where.get("path_regex")
        return (
            where.get("server", call.server) == call.server
            and call.endpoint in where.get("endpoint", (call.endpoint,))
            and where.get("level", call.level) == call.level
            and where.get("method", call.method) == call.method
            and where.get("ranged", "Range" in call.headers) == ("Range" in call.headers)
            and (pattern is None or pattern.search(call.path) is not None)
        )

    def _is_turn(self, count: int) -> bool:
        where = self.where
        return (
            count in where.get("nth", (count,))
            and count <= where.get("first", count)
            and count % where.get("every", 1) == 0
        )


class Faults:
    """
    A script, read and counting.

    Attributes:
        seed: For rules with a probability.
    """

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        self.seed = seed
        self._rules = rules

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Read a file; one that ends in ``.json`` is JSON, any other TOML.

        Raises:
            FaultScriptError: It cannot be read or understood.
        """
        try:
            text = path.read_text("utf-8")
            script = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
        except OSError as error:
            raise FaultScriptError(str(path), None, "", f"cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise FaultScriptError(str(path), None, "", str(error)) from error
        return cls.parse(script, str(path))

    @classmethod
    def of(cls, *rules: Mapping[str, Any], seed: int = 0) -> Self:
        """The rules of a script, as a test writes them. Raises: FaultScriptError."""
        return cls.parse({"seed": seed, "rule": list(rules)}, "rules")

    @classmethod
    def parse(cls, script: Any, source: str) -> Self:
        """Raises: FaultScriptError."""
        if not isinstance(script, dict):
            raise FaultScriptError(source, None, "", "expected a table with [[rule]]")
        for key in script.keys() - {"seed", "rule"}:
            raise FaultScriptError(source, None, key, "unknown key; expected seed or [[rule]]")
        seed, rules = script.get("seed", 0), script.get("rule", [])
        if type(seed) is not int:
            raise FaultScriptError(source, None, "seed", "expected an integer")
        if not isinstance(rules, list) or not all(isinstance(rule, Mapping) for rule in rules):
            raise FaultScriptError(source, None, "rule", "expected an array of tables")
        return cls(
            [Rule(number, *read_rule(source, number, rule)) for number, rule in enumerate(rules, 1)], seed
        )

    def meeting(self, call: Call) -> list[Rule]:
        """The rules that befall *call*, which is counted once by each."""
        return [rule for rule in self._rules if rule.meets(call, self.seed)]

    @property
    def fired(self) -> Counter[str]:
        """How often each fault has happened, by its name."""
        total: Counter[str] = Counter()
        for rule in self._rules:
            total[rule.kind.name] += rule._fired  # noqa: SLF001 - the rules are this script's own
        return total
