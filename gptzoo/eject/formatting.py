"""Formatting by ruff, if it is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

LINE_LENGTH = 100
NOT_FORMATTED = "The file is not formatted, because ruff is not installed: pip install ruff"
_RULES = "E,F,I,UP,RET505,PIE790,SIM108"


def can_format() -> bool:
    """Return True if ruff is installed."""
    return importlib.util.find_spec("ruff") is not None


def formatted(text: str) -> str:
    """Return the text formatted by ruff. Without ruff, return it as it is."""
    if not can_format():
        return text
    options = ["--line-length", str(LINE_LENGTH), "--isolated", "--stdin-filename", "model.py", "-q"]
    check = ["check", "--fix", "--exit-zero", "--select", _RULES, "--target-version", "py311"]
    for command in (check, ["format", "--target-version", "py311"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, *options, "-"], input=text, capture_output=True, text=True
        )
        if done.returncode == 0 and done.stdout:
            text = done.stdout
    return text
