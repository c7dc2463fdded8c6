"""
Format ``--help`` with options under headings, and suggest the right option for an unknown one.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import click

from bulkdl.settings.errors import suggest_option

EXAMPLE = "Example:"
VARIABLES = "Each option can also be set with a variable: --speed-limit is BULKDL_SPEED_LIMIT."


class Group(StrEnum):
    """The headings in ``--help``, in this order."""

    SELECTION = "Selection"
    DESTINATION = "Destination"
    CONCURRENCY = "Concurrency"
    LIMITS = "Limits"
    RETRY = "Retry"
    MONITORING = "Monitoring"
    SERVICE = "Service"
    GENERAL = "General"


class GroupedOption(click.Option):
    """An option that ``--help`` lists under a heading."""

    def __init__(self, *args: Any, group: Group = Group.GENERAL, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class Command(click.Command):
    """
    A command with grouped options and one example.

    Args:
        example: A command line.
        variables: How to set the options with variables.
    """

    def __init__(self, *args: Any, example: str = "", variables: str = VARIABLES, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.example = example
        self.variables = variables

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the visible options under their headings."""
        groups: dict[Group, list[tuple[str, str]]] = {group: [] for group in Group}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                groups[getattr(param, "group", Group.GENERAL)].append(record)
        for group, records in groups.items():
            if records:
                with formatter.section(group.value):
                    formatter.write_dl(records, col_max=34)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the example and the rule for variables."""
        formatter.write_paragraph()
        formatter.write_text(self.variables)
        formatter.write_paragraph()
        formatter.write_text(f"{EXAMPLE}  {self.example}")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse *args*. For an unknown option, propose the option that the user probably meant."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            names = [name for param in self.params for name in param.opts if name.startswith("--")]
            near = suggest_option(error.option_name, names)
            proposal = f"; did you mean {near}?" if near else ""
            raise click.UsageError(f"unknown option {error.option_name}{proposal}", ctx) from error
