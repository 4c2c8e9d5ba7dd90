"""gptzoo eval: what held-out text says of a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import context_of, json_option, plugin_option

if TYPE_CHECKING:
    from gptzoo.training.evaluation.evaluate import Evaluation, Protocol


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="FILE|CORPUS|FOLDER",
    help="A file of text, all of it measured on; a corpus or a run spec; or a folder that `gptzoo prepare` made. "
    "Left out, what the run was trained on.",
)
@click.option("--split", type=click.Choice(["val", "train"]), default="val", show_default=True)
@click.option("--checkpoint", default="last", show_default=True, help="Of a run: last, best, or a step.")
@click.option("--averaged", is_flag=True, help="The moving average of the weights in place of the weights.")
@click.option(
    "--protocol",
    type=click.Choice(["full", "random-batches"]),
    default="full",
    show_default=True,
    help="Every token once, or nanoGPT's random windows, to compare with figures that were measured so.",
)
@click.option("--batches", type=click.IntRange(min=1), help="Of random-batches; 200 if left out.")
@click.option("--batch-size", type=click.IntRange(min=1), help="Of random-batches; 12 if left out.")
@click.option("--seed", type=click.IntRange(min=0), help="Of random-batches; 1 if left out.")
@click.option("--batching", metavar="NAME|JSON", help="How text is cut; left out, as in the run, else windows.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "tf32", "bf16", "fp16"]), help="Left out, that of the run."
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@json_option
@plugin_option
def evaluate(
    run: Path,
    data: str | None,
    split: str,
    checkpoint: str,
    averaged: bool,
    protocol: str,
    batches: int | None,
    batch_size: int | None,
    seed: int | None,
    batching: str | None,
    precision: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Measure the model in RUN: loss, perplexity and bits per byte.

    RUN is a run folder, a checkpoint, or a folder that `build --out` or `import-hf` made. The full pass predicts every
    token of the split but the first once, so that its result depends on neither a batch size nor a seed; bits per byte
    compare models of different tokenizers.
    """
    from gptzoo.cli.reading import read_component, read_text_source
    from gptzoo.training.evaluation.evaluate import evaluate as evaluate_saved

    found = evaluate_saved(
        run,
        None if data is None else read_text_source(data),
        split=split,  # type: ignore[arg-type]  # click has checked it
        best=checkpoint == "best",
        step=context_of(checkpoint),
        averaged=averaged,
        protocol=_protocol(protocol, {"batches": batches, "batch_size": batch_size, "seed": seed}),
        batching=None if batching is None else read_component("batching", batching, "--batching"),
        precision=precision,
        device=device,
    )
    if as_json:
        click.echo(json.dumps(found.as_dict(), indent=2))
    else:
        _print(found)


def _protocol(name: str, options: dict[str, int | None]) -> Protocol:
    from gptzoo.training.evaluation.evaluate import FullPass, RandomBatches

    given = {option: value for option, value in options.items() if value is not None}
    if name == RandomBatches.name:
        return RandomBatches(**given)
    if given:
        option = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{option} is of --protocol random-batches; a full pass depends on none")
    return FullPass()


def _print(found: Evaluation) -> None:
    measured = found.measured
    click.echo(f"{found.folder}: {found.split} split, {found.batching}, {found.protocol}, {found.precision}")
    click.echo(f"  loss           {measured.loss:.4f} nats per token")
    click.echo(f"  perplexity     {measured.perplexity:.4g}")
    click.echo(f"  bits per byte  {measured.bits_per_byte:.4f}")
    click.echo(f"  tokens         {measured.n_tokens:,}, of {measured.n_bytes:,} bytes")
    click.echo(f"  data           {found.data[:16]}")
