"""Find processors by name: those of bulkdl and those of installed distributions."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any, cast

from bulkdl.errors import ConfigError
from bulkdl.extensions import describe_error, extension_names, load_extension
from bulkdl.log import get_logger
from bulkdl.processors.interfaces import Processor

log = get_logger(__name__)

GROUP = "bulkdl.processors"
"""The entry point group. Each entry point names a factory of a processor."""

ProcessorFactory = Callable[[Mapping[str, Any]], Processor]
"""Creates a processor from its table of settings; raises ConfigError or ValueError for an invalid one."""


def _create_unpack(table: Mapping[str, Any]) -> Processor:
    """Import the processor on first use: a run without it does not need its modules."""
    processor: Processor = import_module("bulkdl.processors.unpack.processor").create_processor(table)
    return processor


BUILT_IN: dict[str, ProcessorFactory] = {"unpack": _create_unpack}
"""The processors of bulkdl."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")


def load_processors(names: Iterable[str], tables: Mapping[str, Mapping[str, Any]]) -> tuple[Processor, ...]:
    """
    Create the processors *names*, each with its table of settings.

    Raises:
        ConfigError: A processor is not installed, cannot be loaded, or rejects its settings; or there is a
            table of settings for an unknown processor.
    """
    names = tuple(dict.fromkeys(names))
    if not names:
        return ()
    known = {*BUILT_IN, *extension_names(GROUP)}
    for name in names:
        if name not in known:
            raise ConfigError("--processor", f"unknown processor {name[:60]!r}; {_describe(known)}")
    for name in tables:
        if name not in known:
            raise ConfigError(f"processor_settings.{name[:60]}", f"unknown processor; {_describe(known)}")
    return tuple(_create(name, _find_factory(name), tables.get(name, {})) for name in names)


def _describe(known: Iterable[str]) -> str:
    names = ", ".join(sorted(known))
    return f"installed: {names}" if names else "no processor is installed"


def _find_factory(name: str) -> ProcessorFactory:
    if name in BUILT_IN:
        return BUILT_IN[name]
    try:
        return cast("ProcessorFactory", load_extension(GROUP, name))
    except ValueError as error:
        raise ConfigError("--processor", str(error)) from error


def _create(name: str, factory: ProcessorFactory, table: Mapping[str, Any]) -> Processor:
    try:
        processor = factory(table)
        actual_name, version = processor.name, processor.version
    except ConfigError:
        raise
    except Exception as error:  # the code of another distribution
        raise ConfigError(
            f"processor_settings.{name}", f"processor {name} cannot be created: {describe_error(error)}"
        ) from error
    if actual_name != name or not _NAME.fullmatch(name):
        raise ConfigError(
            "--processor",
            f"processor {name!r} has the name {actual_name!r}; expected the name of its entry point, with "
            "lower-case letters, digits, - and _",
        )
    if not isinstance(version, int) or version < 1:
        raise ConfigError(
            "--processor", f"processor {name} has the version {version!r}; expected 1 or higher"
        )
    return processor
