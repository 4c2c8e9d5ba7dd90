"""Hints for options that a command does not have, such as nanoGPT's `--n_layer=6` and `--start`."""

from __future__ import annotations

import click

from gptzoo.field_words import FIELD_WORDS, FIELDS, OTHER_MEANINGS

_OPTIONS = {
    "--prompt": ("start", "input", "text", "context"),
    "--max-new-tokens": ("max_tokens", "max_length", "n_tokens", "length", "n_predict"),
    "--out": ("out_dir", "output_dir", "output", "run_dir", "save_dir"),
    "--device": ("gpu", "cuda", "cpu"),
}
_OPTION_WORDS = {word: option for option, words in _OPTIONS.items() for word in words}
"""The option of gptzoo, by the name that other projects give it."""
_SPEC_WORDS = {"config", "config_file", "config_path", "spec", "cfg"}


def hint_for_option(error: click.NoSuchOption) -> str:
    """Return what to write instead of an option that the command does not have, or "" if no word is known."""
    if error.ctx is None:
        return ""
    command = error.ctx.command
    word = error.option_name.lstrip("-").replace("-", "_").lower()
    option = _OPTION_WORDS.get(word)
    if option is not None and any(option in parameter.opts for parameter in command.params):
        return f"Write {option}."
    first = next((parameter for parameter in command.params if isinstance(parameter, click.Argument)), None)
    if word in _SPEC_WORDS and first is not None:
        return f"Give the file without an option: {error.ctx.command_path} FILE"
    field = FIELDS.get(word) or FIELD_WORDS.get(word)
    if field is None or not any("--set" in parameter.opts for parameter in command.params):
        return ""
    if {"ablate", "ladder"} & set(error.ctx.command_path.split()):
        field = f"base.{field}"
    meaning = f" with {OTHER_MEANINGS[word]}" if word in OTHER_MEANINGS else ""
    of_model = ""
    if field.startswith("model.") and first is not None and first.name == "spec":
        of_model = f", or --set {field.removeprefix('model.')}=VALUE for the spec of a model"
    return f"It is a field of the spec. Write --set {field}=VALUE{meaning}{of_model}."
