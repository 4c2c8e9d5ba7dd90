"""What can go wrong, as a tree; each class carries the exit code that the command line leaves with.

GptzooError                 1
├── InputError              2   something that the user can mend: the message says what, where and what to try
│   ├── SpecError               a spec breaks a rule; carries one `Problem` for each place
│   ├── PluginError             a plugin was asked for by name or path and cannot be used
│   ├── DataError               a corpus or a tokenizer cannot give what the run needs
│   └── FolderError             a run, checkpoint or model folder is missing, in use, or damaged
├── StopRun                 1   a hook, or a tracker that is required, asks for the end of the run
├── Diverged                3   a loss or a gradient stopped being finite; the last good checkpoint is kept
└── Interrupted             4   asked to stop by a signal; a checkpoint was saved first, `--resume` goes on
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


class GptzooError(Exception):
    """Base of everything that gptzoo raises on purpose."""

    exit_code = 1
    agreed = False
    """All processes of a run raise it together."""
    told_elsewhere = False
    """Another process of the run says it."""


class InputError(GptzooError):
    """The user's input is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One broken rule: `source` (a file, or what stands for one), `path` (`$.attention.window`) and why."""

    source: str
    path: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.path}: {self.reason}"


class SpecError(InputError):
    """A spec is refused. `problems` lists every place; `str()` is one line for each."""

    def __init__(self, problems: Iterable[Problem]):
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class PluginError(InputError):
    """A plugin cannot be loaded, or claims what it may not."""


class DataError(InputError):
    """A corpus or tokenizer cannot give what the run needs."""


class FolderError(InputError):
    """A run, checkpoint or model folder is missing, in use, or damaged."""


class StopRun(GptzooError):
    """Raised by a hook of a plugin to end the run, which has then failed, for the reason that is its text."""


class Diverged(GptzooError):
    """A loss or gradient is not finite."""

    exit_code = 3


class Interrupted(GptzooError):
    """The run was asked to stop; it saved a checkpoint and left."""

    exit_code = 4


class VersionWarning(UserWarning):
    """Something was written with another version of gptzoo or of a package than is installed."""
