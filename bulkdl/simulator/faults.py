"""
Parse and apply a fault script: rules that select requests and define their faults.

TOML (or the same structure as JSON)::

    seed = 7
    [[rule]]
    fault = "cut"            # a name in fault_table.FAULTS, followed by its parameters
    at_fraction = 0.3
    endpoint = "object"      # selects requests: server, endpoint, level, method, path (glob),
    path = "*/output.tgz"    #   path_regex, ranged
    first = 3                # selects by count: nth, first, every; counted per "object" (path) or "all";
    per = "object"           #   probability, limit

Byte offsets refer to the body of the reply. For a range, they start at the start of the range. A negative
``at_byte`` counts from the end.

Each rule has its own counter. Random decisions depend on seed, rule, path and count only, so a script
applies to the same requests in any order. All matching rules apply, in the order of the script.
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

from bulkdl.simulator.fault_script import FaultScriptError, read_rule
from bulkdl.simulator.fault_table import FaultKind
from bulkdl.simulator.messages import ReceivedRequest


@dataclass(slots=True)
class Rule:
    """One rule. ``values`` are the parameters of the fault with defaults."""

    number: int
    kind: FaultKind
    values: dict[str, Any]
    condition: dict[str, Any]
    _counts: Counter[str] = field(default_factory=Counter)
    _applied: int = 0

    def applies_to(self, call: ReceivedRequest, seed: int) -> bool:
        """Count *call* and return whether the fault applies to it."""
        if not self._matches(call):
            return False
        key = call.path if self.condition.get("per", "object") == "object" else ""
        self._counts[key] += 1
        draw = random.Random(f"{seed}/{self.number}/{key}/{self._counts[key]}").random()
        if not self._matches_count(self._counts[key]) or draw >= self.condition.get("probability", 1):
            return False
        if self._applied >= self.condition.get("limit", self._applied + 1):
            return False
        self._applied += 1
        return True

    def _matches(self, call: ReceivedRequest) -> bool:
        where = self.condition
        pattern: re.Pattern[str] | None = where.get("path_regex")
        return (
            where.get("server", call.server) == call.server
            and call.endpoint in where.get("endpoint", (call.endpoint,))
            and where.get("level", call.level) == call.level
            and where.get("method", call.method) == call.method
            and where.get("ranged", "Range" in call.headers) == ("Range" in call.headers)
            and (pattern is None or pattern.search(call.path) is not None)
        )

    def _matches_count(self, count: int) -> bool:
        where = self.condition
        return (
            count in where.get("nth", (count,))
            and count <= where.get("first", count)
            and count % where.get("every", 1) == 0
        )


class Faults:
    """
    A parsed fault script with its counters.

    Attributes:
        seed: Seed for rules with a probability.
    """

    def __init__(self, rules: list[Rule], seed: int = 0) -> None:
        self.seed = seed
        self._rules = rules

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Read a fault script. The suffix ``.json`` selects JSON, otherwise TOML.

        Raises:
            FaultScriptError: The file cannot be read or is not valid.
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
    def from_rules(cls, *rules: Mapping[str, Any], seed: int = 0) -> Self:
        """Create a script from *rules*. Raises: FaultScriptError."""
        return cls.parse({"seed": seed, "rule": list(rules)}, "rules")

    @classmethod
    def parse(cls, script: Any, source: str) -> Self:
        """Parse *script*. Raises: FaultScriptError."""
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

    def select_rules(self, call: ReceivedRequest) -> list[Rule]:
        """Count *call* in each rule and return the rules that apply."""
        return [rule for rule in self._rules if rule.applies_to(call, self.seed)]

    @property
    def applied_counts(self) -> Counter[str]:
        """Return how often each fault was applied, by name."""
        total: Counter[str] = Counter()
        for rule in self._rules:
            total[rule.kind.name] += rule._applied  # noqa: SLF001 - the rules belong to this script
        return total
