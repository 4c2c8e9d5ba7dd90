"""Prompts of `gptzoo sample`: text or a message of a chat, and conversations on the terminal."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel
    from gptzoo.sampling.strategy import Prompt, Strategy


@dataclass(frozen=True)
class PromptReader:
    """The way in which the text of a prompt becomes tokens: as text, with special tokens, or as a message of a chat."""

    loaded: LoadedModel
    is_chat: bool = False
    system: str | None = None
    chat_template: str | None = None
    special_tokens: bool = False

    def messages(self, text: str) -> list[dict[str, str]]:
        """Return the messages of a chat that begins with a text of the user."""
        system = [] if self.system is None else [{"role": "system", "content": self.system}]
        return [*system, {"role": "user", "content": text}]

    def read(self, text: str) -> Prompt:
        """Return the prompt of a text. Raises InputError."""
        from gptzoo.sampling.text import encode_prompt

        if self.is_chat:
            return self.loaded.chat_prompt(self.messages(text), chat_template=self.chat_template)
        return encode_prompt(self.loaded, text, special_tokens=True) if self.special_tokens else text

    def settings(self) -> dict[str, Any]:
        """Return the options that change prompts as JSON values, or nothing for plain text."""
        if self.is_chat:
            return {"chat": {"system": self.system, "template": self.chat_template}}
        return {"special_tokens": True} if self.special_tokens else {}


def chat_interactively(strategy: Strategy, prompts: PromptReader) -> None:
    """Answer messages from the terminal until the end of input. Errors are printed, and the next line is read."""
    from gptzoo.errors import InputError

    click.echo("Type a message. Press Ctrl-C to stop an answer, and Ctrl-D to quit.", err=True)
    messages: list[dict[str, str]] = []
    while (line := _read_line()) is not None:
        if not line:
            continue
        asked = [*messages, {"role": "user", "content": line}] if messages else prompts.messages(line)
        answer = ""
        try:
            prompt = prompts.loaded.chat_prompt(asked, chat_template=prompts.chat_template)
            with contextlib.suppress(KeyboardInterrupt):
                for piece in strategy.stream(prompt):
                    click.echo(piece, nl=False)
                    answer += piece
            messages = [*asked, {"role": "assistant", "content": answer}]
        except InputError as error:
            click.echo(f"{error}", nl=False, err=True)
        click.echo()


def sample_interactively(strategy: Strategy, prompts: PromptReader) -> None:
    """Continue texts from the terminal until the end of input. Errors are printed, and the next line is read."""
    from gptzoo.errors import InputError

    click.echo("Type a prompt. Press Enter to continue the last text, Ctrl-C to stop it, and Ctrl-D to quit.", err=True)
    text = ""
    while (line := _read_line()) is not None:
        text = line or text
        try:
            click.echo(text, nl=False)
            with contextlib.suppress(KeyboardInterrupt):
                for piece in strategy.stream(prompts.read(text)):
                    click.echo(piece, nl=False)
                    text += piece
        except InputError as error:
            click.echo(f"\n{error}", nl=False, err=True)
        click.echo()


def _read_line() -> str | None:
    """Read a line from the terminal, or return None at the end of input."""
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # Windows has no readline
            import readline  # noqa: F401 (enables line editing in input())
        click.echo("> ", nl=False, err=True)
    try:
        return input()
    except (EOFError, KeyboardInterrupt):
        return None
