"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def _load_plugins(ctx: click.Context, param: click.Parameter, files: tuple[str, ...]) -> None:
    if files:
        from gptzoo import registry

        for file in files:
            registry.current().load_file(file)


def complete_kind(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the kinds that start with `incomplete`, for shell completion."""
    from gptzoo import registry

    return [kind for kind in registry.current().kinds if kind.startswith(incomplete)]


def complete_name(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return the components of the given kind that start with `incomplete`, for shell completion."""
    from gptzoo import registry

    return [name for name in registry.registered(ctx.params.get("kind") or "") if name.startswith(incomplete)]


def plugin_option(command: F) -> F:
    """Add `--plugin FILE`, which loads a plugin file before any other argument is read."""
    return click.option(
        "--plugin",
        metavar="FILE",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_load_plugins,
        help="Load components from a Python file that defines the hook gptzoo_components(). Repeatable.",
    )(command)


def model_options(command: F) -> F:
    """Add `--checkpoint`, `--averaged` and `--device`, which select the weights of RUN and the device."""
    return weights_options(device_option()(command))


def device_option(*, of_spec: bool = False) -> Callable[[F], F]:
    """Return a decorator that adds `--device`. If `of_spec`, the default is the device of the spec, instead of auto."""
    text = "Device: auto, cpu, cuda, cuda:N or mps"
    if of_spec:
        return click.option("--device", help=f"{text} (default: the spec's).")
    return click.option("--device", default="auto", show_default=True, help=f"{text}.")


def weights_options(command: F) -> F:
    """Add `--checkpoint` and `--averaged`, which select the weights of RUN."""
    command = click.option(
        "--averaged", is_flag=True, help="Use the averaged (EMA) weights instead of the trained weights."
    )(command)
    return checkpoint_option(command)


def checkpoint_option(command: F) -> F:
    """Add `--checkpoint`, which selects the checkpoint of RUN. `checkpoint_step` reads its value."""
    return click.option(
        "--checkpoint", default="last", show_default=True, help="Checkpoint of a run: last, best, or a step number."
    )(command)


def dtype_option(command: F) -> F:
    """Add `--dtype`, the data type of weights and caches for generation."""
    return click.option(
        "--dtype",
        type=click.Choice(["fp32", "bf16", "int8"]),
        default="fp32",
        show_default=True,
        help="Data type of the weights and KV cache. int8 keeps the cache in bf16.",
    )(command)


def compile_option(command: F) -> F:
    """Add `--compile`, which compiles the decode step."""
    return click.option(
        "--compile",
        is_flag=True,
        help="Compile the decode step. Needs a C++ compiler; the first tokens take longer.",
    )(command)


def allow_oversize_option(command: F) -> F:
    """Add `--allow-oversize`, which skips the check that a model fits into memory."""
    return click.option(
        "--allow-oversize", is_flag=True, help="Go on if the model needs more memory than the machine or device has."
    )(command)


CHAT_TEMPLATE: dict[str, Any] = {
    "metavar": "FILE|NAME",
    "help": "Jinja template of chats, as a file or the name of one of the model's (default: the model's template).",
}


SPECIAL_TOKENS: dict[str, Any] = {
    "is_flag": True,
    "help": "Read names of special tokens, such as <|endoftext|>, as these tokens instead of plain text.",
}


def special_tokens_option(command: F) -> F:
    """Add `--special-tokens`, which reads names of special tokens in the text as tokens."""
    return click.option("--special-tokens", **SPECIAL_TOKENS)(command)


def chat_template_option(command: F) -> F:
    """Add `--chat-template`, which replaces the chat template of the model."""
    return click.option("--chat-template", **CHAT_TEMPLATE)(command)


def checkpoint_step(checkpoint: str) -> int | None:
    """Return the step that `--checkpoint` names, or None for "last" and "best"."""
    if checkpoint in ("last", "best"):
        return None
    if not checkpoint.isdecimal():
        raise click.BadParameter(f"expected last, best or a step number, got {checkpoint!r}", param_hint="--checkpoint")
    return int(checkpoint)


def set_option(command: F) -> F:
    """Add `--set FIELD=VALUE`, which changes a field of the spec."""
    return click.option(
        "--set",
        "overrides",
        metavar="FIELD=VALUE",
        multiple=True,
        help="Set a field of the spec, such as attention.window=64 or norm=post_ln. Repeatable.",
    )(command)


def verify_option(command: F) -> F:
    """Add `--verify`."""
    return click.option(
        "--verify",
        is_flag=True,
        help="Read large files of text and tokens in full to check them. Default: only if size, time, inode or sampled "
        "blocks have changed since the last full check.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json`, which prints the output as JSON."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)
