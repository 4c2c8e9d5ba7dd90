"""A command whose many options are shown in sections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class _Option(click.Option):
    """An option that knows the section of the help that it belongs to."""

    def __init__(self, *args: Any, section: str, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.section = section


class Sectioned(click.Command):
    """Shows options section by section, in the order in which they are declared; those of no section last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [each for each in self.get_params(ctx) if isinstance(each, click.Option)]
        for each in sorted(options, key=lambda each: not isinstance(each, _Option)):  # which keeps their order else
            if (record := each.get_help_record(ctx)) is not None:
                sections.setdefault(getattr(each, "section", "Other options"), []).append(record)
        for name, records in sections.items():
            with formatter.section(name):
                formatter.write_dl(records)


def section(name: str, *options: tuple[tuple[str, ...], dict[str, Any]]) -> Callable[[F], F]:
    """The options of one section, each `((flags), {what click.option accepted_inputs})`."""

    def decorate(command: F) -> F:
        for flags, how in reversed(options):
            command = click.option(*flags, cls=_Option, section=name, **how)(command)
        return command

    return decorate


def option(*flags: str, **how: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """One option of a section."""
    return flags, how
