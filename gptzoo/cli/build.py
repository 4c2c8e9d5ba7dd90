"""gptzoo build: what a spec describes, what it costs, and, with --out, its initial weights."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import json_option, plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.inspection.model_graph import BlockGroup, ModuleNode
    from gptzoo.model.accounting import ModelCosts, Precision
    from gptzoo.spec.model import ModelSpec


@click.command()
@click.argument("spec", type=click.Path(path_type=Path))
@click.option(
    "--batch-size", type=click.IntRange(min=1), help="For the training memory; left out, that of the run, or else 1."
)
@click.option(
    "--sequence-length", type=click.IntRange(min=1), help="For FLOPs and memory; left out, the context_length."
)
@click.option(
    "--dtype",
    "precision",
    type=click.Choice(["fp32", "bf16"]),
    default="fp32",
    show_default=True,
    help="Of cache and activations; bf16 trains by autocast, with weights in fp32.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write a model folder with initial weights.")
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, help="Of the weights in --out.")
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
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Show the model that SPEC describes: its stack, parameters, FLOPs, cache and training memory.

    SPEC is a model spec, a run spec, or the folder of a model, a checkpoint or a run. Without --out nothing is
    allocated, so a model of any size can be looked at.
    """
    from gptzoo.cli.inputs import read_spec
    from gptzoo.inspection.model_graph import build_model_graph
    from gptzoo.model.accounting import model_costs
    from gptzoo.spec.run import RunSpec

    described = read_spec(spec, overrides)
    if isinstance(described, RunSpec):
        micro = described.micro_batch_size
        model_spec, own_batch_size = described.model, micro if isinstance(micro, int) else described.batch_size
    else:
        model_spec, own_batch_size = described, 1
    costs = model_costs(
        model_spec, sequence_length=sequence_length, batch_size=batch_size or own_batch_size, precision=precision
    )
    rows = build_model_graph(model_spec)
    if out is not None:
        _write(model_spec, out, seed)
    if as_json:
        click.echo(json.dumps(_as_data(model_spec, rows, costs), indent=2))
        return
    from rich.console import Console

    from gptzoo.cli.card import print_card

    print_card(Console(highlight=False), model_spec, rows, costs)


def _write(spec: ModelSpec, folder: Path, seed: int) -> None:
    from gptzoo.checkpoint.model_folder import save_model
    from gptzoo.model.build import build as build_model

    save_model(folder, build_model(spec, seed=seed))
    click.echo(f"{folder}: initial weights, seed {seed}", err=True)


def _as_data(spec: ModelSpec, rows: list[ModuleNode | BlockGroup], costs: ModelCosts) -> dict[str, Any]:
    from gptzoo.spec.named_components import named_parts

    return {
        "name": spec.name,
        "spec": spec.resolved(),
        **costs.as_dict(),
        "components": [part.as_dict() for part in named_parts(spec)],
        "stack": [_row_as_data(row) for row in rows],
    }


def _row_as_data(row: ModuleNode | BlockGroup) -> dict[str, Any]:
    from gptzoo.component import Config

    def plain(value: Any) -> Any:
        if isinstance(value, Config):
            return value.model_dump(mode="json")
        if dataclasses.is_dataclass(value):
            return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        if isinstance(value, tuple):
            return [plain(item) for item in value]
        return {key: plain(item) for key, item in value.items()} if isinstance(value, dict) else value

    return plain(row)
