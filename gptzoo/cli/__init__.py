"""The command line, with one file per command.

Commands import torch and other large packages only when they run. Data goes to stdout, notes and progress to stderr.
Exit codes: 0 success, 1 failure, 2 invalid input, 3 divergence, 4 stopped by a signal after saving a checkpoint (see
`gptzoo.errors`).
"""

from __future__ import annotations

import errno
import io
import itertools
import os
import re
import sys
import warnings
from typing import TextIO

import click

import gptzoo
from gptzoo.cli.ablate import ablate
from gptzoo.cli.activities import report_silence
from gptzoo.cli.build import build
from gptzoo.cli.check import check
from gptzoo.cli.compare import compare
from gptzoo.cli.components import components
from gptzoo.cli.diff import diff
from gptzoo.cli.doctor import doctor
from gptzoo.cli.draw import draw
from gptzoo.cli.eject import eject
from gptzoo.cli.evaluate import evaluate
from gptzoo.cli.examples import epilog
from gptzoo.cli.export_gguf import export_gguf
from gptzoo.cli.export_hf import export_hf
from gptzoo.cli.import_gguf import import_gguf
from gptzoo.cli.import_hf import import_hf
from gptzoo.cli.init import init
from gptzoo.cli.inspect import inspect
from gptzoo.cli.ladder import ladder
from gptzoo.cli.lm_eval import lm_eval
from gptzoo.cli.new_plugin import new_plugin
from gptzoo.cli.option_hints import hint_for_option
from gptzoo.cli.option_sections import CommandGroup
from gptzoo.cli.plugins import plugins
from gptzoo.cli.prepare import prepare
from gptzoo.cli.profile import profile
from gptzoo.cli.pull import pull
from gptzoo.cli.push import push
from gptzoo.cli.reference import reference
from gptzoo.cli.report import report
from gptzoo.cli.sample import sample
from gptzoo.cli.schema import schema
from gptzoo.cli.score import score
from gptzoo.cli.score_tasks import score_tasks
from gptzoo.cli.serve import serve
from gptzoo.cli.train import train
from gptzoo.cli.verify_resume import verify_resume
from gptzoo.errors import GptzooError, UserNote
from gptzoo.utils.atomic import INCOMPLETE_PREFIX

# Must be set before torch is imported. Threads that spin while they wait save up to a seventh of the time on a
# quiet machine, and make it two to three times as long where processes share cores (docs/performance.md).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


_show_other_warning = warnings.showwarning


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Print warnings of gptzoo as notes, without a source line."""
    if issubclass(category, UserNote):
        click.echo(f"note: {message}", err=True)
    else:
        _show_other_warning(message, category, filename, lineno, file, line)


_INVALID_INPUT = 2  # exit code
_UNUSABLE_PATH = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG)


def _is_out_of_memory(error: Exception) -> bool:
    """Recognise numpy's MemoryError, torch's OutOfMemoryError on GPUs, and its plain RuntimeErrors on CPUs."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return any(text in str(error) for text in ("can't allocate memory", "Storage size calculation overflowed"))


def _final_path(path: object) -> str:
    """Return the path that a user gave, for one of the temporary file that is renamed to it."""
    return re.sub(rf"{re.escape(INCOMPLETE_PREFIX)}(.*)-\d+$", r"\1", str(path))


class CommandLine(CommandGroup):
    """The `gptzoo` command group, which prints expected errors without a traceback and sets the exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
                stream.reconfigure(errors="replace")  # print "?" for characters that the terminal's encoding lacks
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            try:
                return super().invoke(ctx)
            except click.NoSuchOption as error:
                if hint := hint_for_option(error):
                    raise click.UsageError(f"No such option {error.option_name!r}. {hint}", error.ctx) from None
                raise
            except GptzooError as error:
                if not error.reported_elsewhere:
                    click.echo(str(error), err=True)
                ctx.exit(error.exit_code)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error):
                    raise
                click.echo(
                    f"out of memory: {str(error).splitlines()[0]}; "
                    "try a smaller micro_batch_size, context_length or model",
                    err=True,
                )
                ctx.exit(_INVALID_INPUT)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    reason = f"{error.filename or 'the output'}: cannot be written: {error.strerror}"
                elif error.filename is not None and error.errno in _UNUSABLE_PATH:
                    reason = f"{_final_path(error.filename)}: cannot be read or written: {error.strerror}"
                else:
                    raise
                click.echo(reason, err=True)
                ctx.exit(_INVALID_INPUT)

    @property
    def sections(self) -> dict[str, tuple[click.Command, ...]]:
        return SECTIONS


SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Train": (init, build, prepare, train, evaluate, lm_eval, verify_resume, profile),
    "Compare": (compare, ablate, ladder, report, diff),
    "Generate and inspect": (sample, score, serve, inspect, draw),
    "Other formats": (import_hf, export_hf, import_gguf, export_gguf, eject),
    "Share": (push, pull),
    "Extend": (components, plugins, new_plugin, check),
    "Editors, docs and bug reports": (schema, reference, doctor),
}
_EPILOG = """\b
Getting started:
  gptzoo train @quickstart --out runs/quickstart
  gptzoo sample runs/quickstart --prompt "The Birthday of"
  gptzoo COMMAND --help

\b
Shell completion for bash (for other shells, use zsh_source or fish_source):
  eval "$(_GPTZOO_COMPLETE=bash_source gptzoo)"
"""


@click.group(cls=CommandLine, context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(gptzoo.__version__, prog_name="gptzoo")
def main() -> None:
    """Build, train, compare and sample GPTs from specs in JSON, YAML or TOML. Every component is a plugin."""


for command in itertools.chain.from_iterable(SECTIONS.values()):
    report_silence(command)
    command.epilog = command.epilog or epilog(str(command.name))
    main.add_command(command)
main.add_command(score_tasks)  # hidden: a job of gptzoo ablate
