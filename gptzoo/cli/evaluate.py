"""`gptzoo eval`: the loss, perplexity and bits per byte of a model on a text."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import checkpoint_step, device_option, json_option, plugin_option, weights_options
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.training.evaluation.evaluate import Evaluation
    from gptzoo.training.evaluation.protocols import Protocol


@click.command("eval")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--data",
    metavar="FILE|CORPUS|FOLDER",
    help="Text to evaluate on: a text file, a corpus, a run spec, or a folder from `gptzoo prepare` "
    "(default: the data that the run was trained on).",
)
@click.option(
    "--split", type=click.Choice(["val", "train"]), default="val", show_default=True, help="Split of the text."
)
@weights_options
@click.option(
    "--protocol",
    type=click.Choice(["full", "random-batches"]),
    default="full",
    show_default=True,
    help="full: predict every token once. random-batches: nanoGPT's random windows, for its published losses.",
)
@click.option("--batches", type=click.IntRange(min=1), help="Number of random batches (default: 200).")
@click.option("--batch-size", type=click.IntRange(min=1), help="Sequences per random batch (default: 12).")
@click.option("--seed", type=click.IntRange(min=0), help="Random seed of the random batches (default: 1).")
@click.option(
    "--window",
    type=click.IntRange(min=1),
    help="Tokens that the model reads at a time (default: context_length). A longer window than in training is allowed "
    "if the model has no limit of positions.",
)
@click.option(
    "--stride",
    type=click.IntRange(min=1),
    help="Tokens from the start of one window to the next (default: the window). A smaller stride gives tokens more "
    "context, usually lowers the loss, and takes longer.",
)
@click.option("--batching", metavar="NAME|JSON", help="Batching of the text (default: the run's, else windows).")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "tf32", "bf16", "fp16"]),
    help="Precision of the computation (default: the run's).",
)
@device_option()
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
    window: int | None,
    stride: int | None,
    batching: str | None,
    precision: str | None,
    device: str,
    as_json: bool,
) -> None:
    """Print loss, perplexity and bits per byte of the model in RUN.

    RUN is a run folder, a checkpoint, or a model folder from `build --out` or `import-hf`. The full pass predicts each
    token of the split except the first exactly once, so its result does not depend on batch size or seed. It depends on
    --window and --stride, which are part of the output. Use bits per byte to compare models with different tokenizers.
    Losses compare only if they are of the same text, which `text` in the output identifies.

    For a task, the accuracy over the tokens asked for is printed too, with its exact 95% interval and beside the
    accuracy of the best predictor without context, and the same for each level of difficulty.
    """
    from gptzoo.cli.inputs import read_component, read_text_source
    from gptzoo.training.evaluation.evaluate import evaluate as evaluate_saved

    evaluation = evaluate_saved(
        run,
        None if data is None else read_text_source(data),
        split=split,  # type: ignore[arg-type]  # click has checked it
        best=checkpoint == "best",
        step=checkpoint_step(checkpoint),
        averaged=averaged,
        protocol=_protocol(protocol, {"batches": batches, "batch_size": batch_size, "seed": seed}, window, stride),
        batching=None if batching is None else read_component("batching", batching, "--batching"),
        precision=precision,
        device=device,
    )
    if as_json:
        click.echo(to_json(evaluation.as_dict(), indent=2))
    else:
        _print(evaluation)


def _protocol(name: str, options: dict[str, int | None], window: int | None, stride: int | None) -> Protocol:
    from gptzoo.training.evaluation.protocols import FullPass, RandomBatches, SlidingWindows

    given = {option: value for option, value in options.items() if value is not None}
    has_windows = window is not None or stride is not None
    if name == RandomBatches.name:
        if has_windows:
            raise click.UsageError("--window and --stride are for the full pass, not for --protocol random-batches")
        return RandomBatches(**given)
    if given:
        option = next(iter(given)).replace("_", "-")
        raise click.UsageError(f"--{option} requires --protocol random-batches; the full pass does not use it")
    return SlidingWindows(window, stride) if has_windows else FullPass()


def _print(evaluation: Evaluation) -> None:
    from gptzoo.training.evaluation.describe import describe_evaluation

    windows = f"window {evaluation.window}, stride {evaluation.stride}"
    settings = (
        f"{evaluation.split} split, {evaluation.batching}, {evaluation.protocol}, {windows}, {evaluation.precision}"
    )
    click.echo(f"{evaluation.folder}: {settings}")
    for name, text in describe_evaluation(evaluation).items():
        click.echo(f"  {name:<13}  {text}")
