"""gptzoo train: a run spec in, a run folder out."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gptzoo.cli.options import plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.spec.run import RunSpec


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The run folder to write.")
@click.option("--resume", is_flag=True, help="Go on from the newest checkpoint in --out, or start if there is none.")
@click.option("--extend", is_flag=True, help="Resume although the spec's steps, tokens or epochs are others now.")
@click.option(
    "--override", is_flag=True, help="Resume although the spec or the data is another now; what changed is kept."
)
@click.option("--until", type=click.IntRange(min=1), metavar="STEP", help="Pause after this step; --resume goes on.")
@click.option("--device", help="auto, cpu, cuda or cuda:N; instead of the spec's.")
@click.option("--bare", is_flag=True, help="Train and no more: no picture and no sample at the end.")
@click.option("--no-plot", is_flag=True, help="Draw no picture of the loss.")
@set_option
@plugin_option
def train(
    run: Path,
    out: Path,
    resume: bool,
    extend: bool,
    override: bool,
    until: int | None,
    device: str | None,
    bare: bool,
    no_plot: bool,
    overrides: tuple[str, ...],
) -> None:
    """Train the model that RUN, a JSON run spec, describes.

    OUT gets run.json (the resolved spec), environment.json, metrics.jsonl, checkpoints/, sample.txt and loss.png.
    Stopped by Ctrl-C or SIGTERM, it finishes the step, saves and leaves with exit code 4; --resume then ends with
    bitwise the same weights as a run that was never stopped.
    """
    from gptzoo import train as train_run
    from gptzoo.spec.files import load_run_spec
    from gptzoo.training.distributed.parallelize import launched_rank

    if device is not None:
        overrides = (*overrides, f"device={device}")
    spec = load_run_spec(run, overrides)
    result = train_run(spec, out, resume=resume, extend=extend, override=override, until=until)
    if launched_rank() != 0:
        return
    if result.paused:
        click.echo(f"{result.folder}: paused after {result.steps} steps; --resume goes on", err=True)
        return
    click.echo(f"{result.folder}: {result.steps} steps, val/loss {result.metrics['val/loss']:.4f}", err=True)
    if not (bare or no_plot):
        _draw(spec, out)
    if not bare:
        _sample(spec, out, result.opening)


def _draw(spec: RunSpec, out: Path) -> None:
    if importlib.util.find_spec("matplotlib") is None:
        click.echo("no loss curve drawn: pip install 'gptzoo[plot]'", err=True)
        return
    from gptzoo.training.run.disk import writing
    from gptzoo.training.run.metrics_file import read
    from gptzoo.training.tracking.loss_curve import draw_curve

    with writing(out / "loss.png"):
        draw_curve(read(out / "metrics.jsonl"), spec.name, out / "loss.png")
    click.echo(f"loss curve: {out / 'loss.png'}", err=True)


def _sample(spec: RunSpec, out: Path, opening: str) -> None:
    """What the model says: no more than its positions reach, so that a run never ends in an error over its sample."""
    from gptzoo.checkpoint.model_folder import load
    from gptzoo.sampling.spec import SamplingSpec
    from gptzoo.sampling.text import encode_prompt, sample_texts, tokenizer_of
    from gptzoo.training.run.disk import writing
    from gptzoo.utils.atomic import write_text

    loaded = load(out)
    prompt = opening if spec.sample.prompt is None else spec.sample.prompt
    n_prompt = len(encode_prompt(loaded, prompt))
    room = loaded.model.remaining_length(n_prompt)
    if room is None:
        room = max(0, loaded.spec.context_length - n_prompt)
    whole = spec.batching.component.whole_documents  # else, where a text ends, the next may begin
    sampling = SamplingSpec.model_validate(
        {
            "max_new_tokens": min(spec.sample.max_new_tokens, room),
            "stop_tokens": tuple(tokenizer_of(loaded).separator()) if whole else (),
            "processors": [{"type": "temperature", "value": spec.sample.temperature}],
            "seed": spec.seed,
        }
    )
    ((sample,),) = sample_texts(loaded, [prompt], sampling)
    text = prompt + sample.text
    with writing(out / "sample.txt"):
        write_text(out / "sample.txt", text + "\n")
    click.echo(text)
