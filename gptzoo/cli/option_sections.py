"""Groups that list their commands in full, and commands whose `--help` shows the options in sections."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
OptionSpec = tuple[tuple[str, ...], dict[str, Any]]  # flags, and keyword arguments of click.option


class CommandGroup(click.Group):
    """A group that lists its commands in order of declaration."""

    @property
    def sections(self) -> Mapping[str, Sequence[click.Command]]:
        """The commands by the title of their section."""
        return {"Commands": tuple(self.commands.values())}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by section, each with its full first sentence, which click would cut to one line."""
        width = max(map(len, self.commands))  # the same column in all sections
        for title, commands in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(str(command.name).ljust(width), command.get_short_help_str(limit=200)) for command in commands]
                )


class _SectionOption(click.Option):
    section: str


class SectionedCommand(click.Command):
    """A command that lists its options by section, in order of declaration, and options without a section last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        for option in sorted(options, key=lambda option: not isinstance(option, _SectionOption)):  # a stable sort
            if (record := option.get_help_record(ctx)) is not None:
                title = option.section if isinstance(option, _SectionOption) else "Other options"
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl(records)


def section(title: str, *options: OptionSpec) -> Callable[[F], F]:
    """Add a section of options, each made by `option`, to a command."""

    def decorate(command: F) -> F:
        for flags, attributes in reversed(options):
            option_class = type("SectionOption", (_SectionOption,), {"section": title})
            command = click.option(*flags, cls=option_class, **attributes)(command)
        return command

    return decorate


def option(*flags: str, **attributes: object) -> OptionSpec:
    """Describe an option of a section with the arguments of `click.option`."""
    return flags, attributes
