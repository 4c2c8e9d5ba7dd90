"""The exceptions of gptzoo, each with the exit code of the command line.

GptzooError                 1
├── InputError              2   an error in the user's input; the message says what is wrong, where, and what to do
│   ├── SpecError               a spec is invalid; has a list of `Problem`s
│   ├── PluginError             a plugin cannot be loaded
│   ├── DataError               a corpus or tokenizer cannot provide what the run needs
│   ├── FolderError             a run, checkpoint or model folder is missing, in use or damaged
│   ├── HubError                the Hugging Face Hub cannot be reached, or refuses the request
│   ├── LogitsError             a model gives logits from which no token can be drawn
│   └── ProcessorError          a logits processor fails
├── StopRun                 1   a hook or a required tracker ended the run
├── Diverged                3   a loss or gradient is not finite; the last good checkpoint is kept
└── Interrupted             4   a signal stopped the run after it saved a checkpoint; `--resume` continues it
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class GptzooError(Exception):
    """Base class of all exceptions that gptzoo raises deliberately."""

    exit_code = 1
    collective = False
    """True if all ranks of a run raise it together."""
    reported_elsewhere = False
    """True if another rank prints it."""


class InputError(GptzooError):
    """An error in the user's input."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One error in a spec: the file (or a stand-in for one), the path in it (`$.attention.window`) and the reason."""

    source: str
    path: str
    reason: str
    line: int | None = None
    """The line of the file, from 1. None if it is unknown, or if the file is a single line."""

    def __str__(self) -> str:
        place = self.source if self.line is None else f"{self.source}:{self.line}"
        return f"{place}: {self.path}: {self.reason}"


class SpecError(InputError):
    """An invalid spec. `problems` lists all problems; the message has one line for each."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(InputError):
    """A plugin that cannot be loaded, or that offers an invalid component."""


class DataError(InputError):
    """A corpus or tokenizer that cannot provide what the run needs."""


class FolderError(InputError):
    """A run, checkpoint or model folder that is missing, in use or damaged."""


class HubError(InputError):
    """The Hugging Face Hub, or a repository on it, cannot be reached or refuses the request."""


class LogitsError(InputError):
    """Logits of a model that have NaN or +inf, or no possible token."""


class ProcessorError(InputError):
    """A logits processor that raised an exception or returned logits from which no token can be drawn."""


class StopRun(GptzooError):
    """Raised by a plugin's hook to end the run. The run's status is then `failed`, with the message as the reason."""


class Diverged(GptzooError):
    """A loss or gradient that is not finite."""

    exit_code = 3


class Interrupted(GptzooError):
    """A run that was stopped by a signal, after it saved a checkpoint."""

    exit_code = 4


class UserNote(UserWarning):
    """A fact that the user should know and that is no error. The command line prints it as a note."""


class VersionWarning(UserNote):
    """A file that was written with another version of gptzoo or of a package than is installed."""
