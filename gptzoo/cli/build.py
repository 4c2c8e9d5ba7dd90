"""`gptzoo build`: the structure and costs of a model, and optionally a folder with initial weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import allow_oversize_option, json_option, plugin_option, set_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.inspection.model_graph import BlockGroup, ModuleNode
    from gptzoo.model.accounting import ModelCosts
    from gptzoo.model.dry_run import Precision
    from gptzoo.spec.model import ModelSpec
    from gptzoo.spec.run import RunSpec


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    help="Batch size for the training memory (default: the run's micro-batch or batch size; 1 for a model).",
)
@click.option(
    "--sequence-length",
    type=click.IntRange(min=1),
    help="Sequence length in tokens for FLOPs and memory (default: that of the run's samples, or context_length).",
)
@click.option(
    "--dtype",
    "precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Data type of KV cache and activations. bf16 keeps fp32 weights and trains with autocast.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a model folder with initial weights to this path.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Random seed for the weights in --out."
)
@allow_oversize_option
@json_option
@set_option
@plugin_option
def build(
    spec: Path,
    batch_size: int | None,
    sequence_length: int | None,
    precision: Precision,
    out: Path | None,
    seed: int,
    allow_oversize: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Show the blocks, parameters, FLOPs, KV cache and training memory of a model, and if it can be exported.

    SPEC is a model spec, a run spec, or the folder of a model, a checkpoint or a run. A spec is a file, or @NAME for a
    configuration that comes with gptzoo, such as @gpt2; @ alone lists them. No weights are allocated unless --out is
    given, so this works for a model of any size.
    """
    from gptzoo.cli.inputs import read_spec
    from gptzoo.inspection.model_graph import build_model_graph
    from gptzoo.model.accounting import model_costs
    from gptzoo.spec.run import RunSpec

    model_or_run = read_spec(spec, overrides)
    if isinstance(model_or_run, RunSpec):
        micro_batch_size = model_or_run.micro_batch_size
        model_spec, default_length = model_or_run.model, model_or_run.tokens_per_sample
        default_batch_size = micro_batch_size if isinstance(micro_batch_size, int) else model_or_run.batch_size
    else:
        model_spec, default_length, default_batch_size = model_or_run, model_or_run.context_length, 1
    costs = model_costs(
        model_spec,
        sequence_length=sequence_length or default_length,
        batch_size=batch_size or default_batch_size,
        precision=precision,
    )
    nodes = build_model_graph(model_spec)
    if out is not None:
        _write_initial_weights(model_spec, out, seed, allow_oversize)
    if as_json:
        click.echo(to_json(_to_json(model_or_run, model_spec, nodes, costs), indent=2))
        return
    from rich.console import Console

    from gptzoo.cli.card import print_card

    print_card(Console(highlight=False), model_or_run, nodes, costs)


def _write_initial_weights(spec: ModelSpec, folder: Path, seed: int, allow_oversize: bool) -> None:
    from gptzoo.checkpoint.model_folder import save_model
    from gptzoo.model.build import build as build_model

    save_model(folder, build_model(spec, seed=seed, allow_oversize=allow_oversize))
    click.echo(f"{folder}: wrote initial weights, seed {seed}", err=True)


def _to_json(
    model_or_run: ModelSpec | RunSpec, spec: ModelSpec, nodes: list[ModuleNode | BlockGroup], costs: ModelCosts
) -> dict[str, Any]:
    from gptzoo.interop.exporting.summary import summarise_export
    from gptzoo.spec.components_in_spec import components_in, recommendations_in

    return {
        "name": spec.name,
        "spec": spec.resolved(),
        **costs.as_dict(),
        "export": dataclasses.asdict(summarise_export(spec)),
        "components": [part.as_dict() for part in components_in(spec)],
        "recommended": [recommendation.as_dict() for recommendation in recommendations_in(model_or_run)],
        "stack": [_node_to_json(node) for node in nodes],
    }


def _node_to_json(value: object) -> object:
    from gptzoo.component import Config

    if isinstance(value, Config):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _node_to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, tuple):
        return [_node_to_json(item) for item in value]
    return {key: _node_to_json(item) for key, item in value.items()} if isinstance(value, dict) else value
