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


def complete_kind(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """For a shell: the kinds that begin so."""
    from gptzoo import registry

    return [kind for kind in registry.current().kinds if kind.startswith(begun)]


def complete_name(ctx: click.Context, param: click.Parameter, begun: str) -> list[str]:
    """For a shell: the components of the kind before it that begin so."""
    from gptzoo import registry

    return [name for name in registry.registered(ctx.params.get("kind") or "") if name.startswith(begun)]


def plugin_option(command: F) -> F:
    """`--plugin FILE`: load a plugin from a Python file, before anything else is read."""
    return click.option(
        "--plugin",
        metavar="FILE",
        multiple=True,
        is_eager=True,
        expose_value=False,
        callback=_load_plugins,
        help="Load components from a Python file with a gptzoo_components() hook. May be given again.",
    )(command)


def model_options(command: F) -> F:
    """Which weights of a RUN, and where they compute: `--checkpoint`, `--averaged`, `--device`; see `read_model`."""
    command = click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")(command)
    command = click.option("--averaged", is_flag=True, help="The moving average of the weights in their place.")(
        command
    )
    return click.option("--checkpoint", default="last", show_default=True, help="Of a run: last, best, or a step.")(
        command
    )


def dtype_option(command: F) -> F:
    """`--dtype`: of the weights and caches of a model that writes; see `read_model`."""
    return click.option(
        "--dtype",
        type=click.Choice(["fp32", "bf16", "int8"]),
        default="fp32",
        show_default=True,
        help="Of the weights; caches are in bf16 beside int8.",
    )(command)


def compile_option(command: F) -> F:
    """`--compile`: of what adds a token; see `read_model`."""
    return click.option(
        "--compile",
        is_flag=True,
        help="Compile what adds a token (needs a C++ compiler): the first ones take long.",
    )(command)


def context_of(checkpoint: str) -> int | None:
    """The step that `--checkpoint` names, or None for last and best."""
    if checkpoint in ("last", "best"):
        return None
    if not checkpoint.isdecimal():
        raise click.BadParameter(f"{checkpoint!r}: last, best, or a step", param_hint="--checkpoint")
    return int(checkpoint)


def set_option(command: F) -> F:
    """`--set a.b=value`: change a field of the spec."""
    return click.option(
        "--set",
        "overrides",
        metavar="FIELD=VALUE",
        multiple=True,
        help="Change a field of the spec: attention.window=64, norm=post_ln. May be given again.",
    )(command)


def json_option(command: F) -> F:
    """`--json`: the same as data."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")(command)
