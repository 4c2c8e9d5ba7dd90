"""Lines on stderr from commands that take long."""

from __future__ import annotations

import contextlib
import functools
import importlib
import sys

import click

from gptzoo.terminal.activity import activity, show_activities

# Commands that print nothing until they end. What other commands do is reported where it is done.
_ACTIVITIES = {
    "build": "building the model",
    "diff": "comparing the models",
    "draw": "drawing the model",
    "eject": "writing the model as code",
    "eval": "evaluating the model",
    "export-gguf": "exporting the model",
    "export-hf": "exporting the model",
    "import-gguf": "importing the model",
    "import-hf": "importing the model",
    "report": "writing the report",
    "score": "computing log-probabilities",
}
_WITHOUT_TORCH = {"init", "new-plugin"}


def report_silence(command: click.Command) -> None:
    """Let a command, and those in its group, say on stderr what takes longer than two seconds."""
    if isinstance(command, click.Group):
        for child in command.commands.values():
            report_silence(child)
    callback = command.callback
    if callback is None:
        return

    @functools.wraps(callback)
    def reporting(*args: object, **options: object) -> object:
        with show_activities(), contextlib.ExitStack() as stack:
            if "torch" not in sys.modules and command.name not in _WITHOUT_TORCH:
                with activity("loading PyTorch"):
                    importlib.import_module("torch")
            if command.name in _ACTIVITIES:
                stack.enter_context(activity(_ACTIVITIES[command.name]))
            return callback(*args, **options)

    command.callback = reporting
