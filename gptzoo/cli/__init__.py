"""The command line: one file for each command, which imports what is heavy only when it runs.

Data goes to stdout, notes and progress to stderr. Exit codes: 0 done, 1 failed, 2 wrong input, 3 diverged,
4 stopped by a signal after saving (see `gptzoo.errors`).
"""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import Any

import click

import gptzoo
from gptzoo.cli.ablate import ablate
from gptzoo.cli.build import build
from gptzoo.cli.check import check
from gptzoo.cli.components import components
from gptzoo.cli.diff import diff
from gptzoo.cli.doctor import doctor
from gptzoo.cli.evaluate import evaluate
from gptzoo.cli.examples import epilog
from gptzoo.cli.import_hf import import_hf
from gptzoo.cli.inspect import inspect
from gptzoo.cli.new_plugin import new_plugin
from gptzoo.cli.plugins import plugins
from gptzoo.cli.prepare import prepare
from gptzoo.cli.reference import reference
from gptzoo.cli.report import report
from gptzoo.cli.sample import sample
from gptzoo.cli.schema import schema
from gptzoo.cli.score import score
from gptzoo.cli.serve import serve
from gptzoo.cli.train import train
from gptzoo.cli.verify_resume import verify_resume
from gptzoo.errors import GptzooError, VersionWarning

# Before torch is imported: threads that wait by spinning are slowed by far when another process wants a core too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_show_other_warning = warnings.showwarning


def _show_warning(message: Any, category: type[Warning], *place: Any, **options: Any) -> None:
    """gptzoo's own warnings as notes, without the line of code that they come from."""
    if issubclass(category, VersionWarning):
        click.echo(f"note: {message}", err=True)
    else:
        _show_other_warning(message, category, *place, **options)


_WRONG_INPUT = 2
_LESS_MEMORY = "a smaller micro_batch_size, a shorter context_length or a smaller model takes less"


def _is_want_of_memory(error: Exception) -> bool:
    """numpy raises a MemoryError, torch a RuntimeError: of a class of its own on a GPU, of none on a CPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(text in str(error) for text in ("can't allocate memory", "Storage size calculation overflowed"))


class CommandLine(click.Group):
    """Says what gptzoo raises on purpose without a traceback, and leaves with its exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="replace")  # what a terminal has no letter for shall not end a command
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except GptzooError as error:
                if not error.told_elsewhere:
                    click.echo(str(error), err=True)
                ctx.exit(error.exit_code)
            except (MemoryError, RuntimeError) as error:
                if not _is_want_of_memory(error):
                    raise
                click.echo(f"out of memory: {str(error).splitlines()[0]}; {_LESS_MEMORY}", err=True)
                ctx.exit(_WRONG_INPUT)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                click.echo(f"{error.filename or 'the output'}: cannot be written: {error.strerror}", err=True)
                ctx.exit(_WRONG_INPUT)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)  # in the order of a day's work, not of the alphabet

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Section by section, each with its first sentence whole: click's own list cuts them to a line."""
        width = max(map(len, self.commands))  # one column over all sections
        for title, commands in _SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(str(each.name).ljust(width), each.get_short_help_str(limit=200)) for each in commands]
                )


_SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Train": (build, prepare, train, evaluate, verify_resume),
    "Compare": (ablate, report, diff),
    "Write and look inside": (sample, score, serve, inspect, import_hf),
    "Extend": (components, plugins, new_plugin, check),
    "For editors, docs and bug reports": (schema, reference, doctor),
}
_BEGIN = """\b
To begin with:
  gptzoo train configs/runs/quickstart.json --out runs/quickstart
  gptzoo sample runs/quickstart --prompt "The Birthday of"
  gptzoo COMMAND --help

\b
Completion in bash; zsh_source and fish_source are for those shells:
  eval "$(_GPTZOO_COMPLETE=bash_source gptzoo)"
"""


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_BEGIN)
@click.version_option(gptzoo.__version__, prog_name="gptzoo")
def main() -> None:
    """Build, train and sample GPTs whose every part is a plugin."""


for command in (each for commands in _SECTIONS.values() for each in commands):
    command.epilog = command.epilog or epilog(str(command.name))
    main.add_command(command)
