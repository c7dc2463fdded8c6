"""Parse one rule of a fault script. Errors contain the position of the rule and the key."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fnmatch import translate
from typing import Any

from bulkdl.simulator.fault_table import FAULTS, FaultKind
from bulkdl.simulator.routes import ENDPOINTS

_SERVERS = ("api", "storage")
_LEVELS = ("job", "task")
_PER = ("object", "all")


class FaultScriptError(ValueError):
    """
    The fault script is not valid.

    Attributes:
        source: The file.
        rule: 1-based number of the rule. None outside of the rules.
        key: The invalid key, or empty.
    """

    def __init__(self, source: str, rule: int | None, key: str, problem: str) -> None:
        place = "" if rule is None else f", rule {rule}"
        super().__init__(f"{source}{place}{f', {key}' if key else ''}: {problem}")
        self.source, self.rule, self.key = source, rule, key


def read_rule(
    source: str, number: int, table: Mapping[str, Any]
) -> tuple[FaultKind, dict[str, Any], dict[str, Any]]:
    """
    Return the fault of one rule, its parameters, and the condition for requests.

    Raises:
        FaultScriptError: A fault or key is unknown, a value is invalid, or a parameter is missing.
    """
    name = table.get("fault")
    kind = FAULTS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise FaultScriptError(
            source, number, "fault", f"unknown fault {name!r}; there are {', '.join(FAULTS)}"
        )
    values = {key: parameter.default for key, parameter in kind.parameters.items()}
    condition = {key: CONDITIONS[key](value) for key, value in kind.condition.items()}
    for key in table.keys() - {"fault"}:
        try:
            _read_key(kind, key, table[key], values, condition)
        except (TypeError, re.error) as error:
            raise FaultScriptError(source, number, key, str(error)) from error
    for key, parameter in kind.parameters.items():
        if parameter.required and values[key] is None:
            raise FaultScriptError(source, number, key, f"{name!r} needs it")
    return kind, values, condition


def _read_key(
    kind: FaultKind, key: str, value: Any, values: dict[str, Any], condition: dict[str, Any]
) -> None:
    if key in kind.parameters:
        values[key] = kind.parameters[key].read(value)
    elif key in CONDITIONS:
        condition["path_regex" if key == "path" else key] = CONDITIONS[key](value)
    else:
        keys = ", ".join(("fault", *kind.parameters, *CONDITIONS))
        raise TypeError(f"unknown key for {kind.name!r}; there are {keys}")


def _read_choice(*choices: str) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise TypeError(f"expected one of {', '.join(choices)}; got {value!r}")
        return str(value)

    return read


def _read_endpoints(value: Any) -> tuple[str, ...]:
    read = _read_choice(*ENDPOINTS, "object", "unknown")
    return tuple(read(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _read_counts(value: Any) -> tuple[int, ...]:
    return tuple(_read_count(item) for item in (value if isinstance(value, list | tuple) else [value]))


def _read_count(value: Any) -> int:
    if type(value) is not int or value < 1:
        raise TypeError(f"expected a whole number from 1; got {value!r}")
    return value


def _read_probability(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise TypeError(f"expected a number from 0 to 1; got {value!r}")
    return value


def _read_bool(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"expected true or false; got {value!r}")
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text; got {value!r}")
    return value


CONDITIONS: dict[str, Callable[[Any], Any]] = {
    "server": _read_choice(*_SERVERS),
    "endpoint": _read_endpoints,
    "level": _read_choice(*_LEVELS),
    "method": _read_text,
    "path": lambda value: re.compile(translate(_read_text(value))),
    "path_regex": lambda value: re.compile(_read_text(value)),
    "ranged": _read_bool,
    "nth": _read_counts,
    "first": _read_count,
    "every": _read_count,
    "per": _read_choice(*_PER),
    "probability": _read_probability,
    "limit": _read_count,
}
