"""The Markdown pages of commands, and the list of all commands."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import click

from gptzoo.docgen.markdown import GENERATED_MARK

_EXAMPLES = re.compile(r"Examples:\n(.*)", re.DOTALL)


def render_command_pages(name: str, sections: Mapping[str, Sequence[click.Command]]) -> dict[str, str]:
    """Return the page of each command by the name of its file, and `index`, which lists all.

    name: the program.
    sections: the commands by the title under which `--help` lists them.
    """
    pages: dict[str, str] = {}
    index = [GENERATED_MARK, "# Commands", "`gptzoo COMMAND --help` prints the same in a terminal."]
    for title, commands in sections.items():
        lines = []
        for command in commands:
            for path, each in _with_subcommands(command, name):
                file = _file_name(path)
                pages[file] = "\n\n".join(_command_page(path, each)) + "\n"
                lines.append(f"- [`{path}`]({file}.md): {_first_sentence(each)}")
        index.append(f"## {title}\n\n" + "\n".join(lines))
    return {**pages, "index": "\n\n".join(index) + "\n"}


def _file_name(path: str) -> str:
    """Return the name of the page of a command, without the program and the suffix."""
    return path.partition(" ")[2].replace(" ", "-")


def _with_subcommands(command: click.Command, parent: str) -> Iterator[tuple[str, click.Command]]:
    path = f"{parent} {command.name}"
    yield path, command
    if isinstance(command, click.Group):
        for child in command.commands.values():
            if not child.hidden:
                yield from _with_subcommands(child, path)


def _command_page(path: str, command: click.Command) -> Iterator[str]:
    yield GENERATED_MARK
    yield f"# `{path}`"
    yield _paragraphs(command.help or "")
    context = click.Context(command, info_name=path)
    yield f"```text\n{' '.join([path, *command.collect_usage_pieces(context)])}\n```"
    if match := _EXAMPLES.search(command.epilog or ""):
        examples = "\n".join(line.strip() for line in match[1].splitlines())
        yield f"Examples:\n\n```sh\n{examples}\n```"
    if isinstance(command, click.Group):
        for child_path, child in _with_subcommands(command, path.rpartition(" ")[0]):
            if child is not command:
                yield f"- [`{child_path}`]({_file_name(child_path)}.md): {_first_sentence(child)}"
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    titles = [getattr(option, "section", None) for option in options]
    shown = None
    for option, section in sorted(zip(options, titles, strict=True), key=lambda pair: pair[1] is None):  # a stable sort
        title = section or ("Other options" if any(titles) else "Options")
        if title != shown:
            yield f"## {title}"
        shown = title
        yield from _option_section(option, context)


def _option_section(option: click.Option, context: click.Context) -> Iterator[str]:
    yield f"### {', '.join(f'`{flag}`' for flag in (*option.opts, *option.secondary_opts))}"
    yield _paragraphs(option.help or "")
    facts = [f"- Type: {_type(option, context)}"]
    if (allowed := _range(option.type)) is not None:
        facts.append(f"- Range: {allowed}")
    if option.required:
        facts.append("- Required")
    elif not option.is_flag and isinstance(option.default, str | int | float):
        facts.append(f"- Default: `{option.default}`")
    if option.multiple:
        facts.append("- May be given several times.")
    yield "\n".join(facts)


def _type(option: click.Option, context: click.Context) -> str:
    if option.is_flag:
        return "flag, without a value"
    name = option.make_metavar(context).strip("[]")
    if isinstance(option.type, click.Choice):
        return "one of the names below"
    if isinstance(option.type, click.Path):
        return f"path ({name})" if option.metavar else "path"
    names = {"integer": "integer", "integer range": "integer", "float": "number", "float range": "number"}
    known = names.get(option.type.name, "text")
    return f"{known} ({name})" if option.metavar else known


def _range(kind: click.ParamType) -> str | None:
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if isinstance(kind, click.IntRange | click.FloatRange):
        limits = []
        if kind.min is not None:
            limits.append(f"{'>' if kind.min_open else '≥'} {kind.min:g}")
        if kind.max is not None:
            limits.append(f"{'<' if kind.max_open else '≤'} {kind.max:g}")
        return ", ".join(limits)
    return None


def _paragraphs(text: str) -> str:
    """Return a help text as Markdown. Lines that click does not wrap, and commands, become code."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        lines = paragraph.removeprefix("\b\n").strip()
        if lines.startswith("gptzoo "):
            parts.append(f"```sh\n{lines}\n```")
        elif paragraph.startswith("\b\n"):
            parts.append(f"```text\n{lines}\n```")
        else:
            parts.append(" ".join(lines.split()).replace("<", "\\<"))
    return "\n\n".join(parts)


def _first_sentence(command: click.Command) -> str:
    return command.get_short_help_str(limit=300)
