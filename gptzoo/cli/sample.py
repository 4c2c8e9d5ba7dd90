"""gptzoo sample: text from a run, a checkpoint or a model folder."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from gptzoo.cli.options import json_option, plugin_option


@click.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--prompt", default="", help="Text to go on from; left out, the start of a text.")
@click.option("--max-new-tokens", type=click.IntRange(min=0), default=200, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), default=0.8, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(min=1), help="Keep the so many likeliest tokens.")
@click.option(
    "--top-p",
    type=click.FloatRange(min=0, max=1, min_open=True),
    help="Keep the likeliest tokens up to this probability.",
)
@click.option("--num-samples", type=click.IntRange(min=1), default=1, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option("--stop", "stop_texts", metavar="TEXT", multiple=True, help="End before this text. May be given again.")
@click.option("--best-of", type=click.IntRange(min=1), metavar="N", help="Write N samples, print the likeliest.")
@json_option
@plugin_option
def sample(
    run: Path,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    num_samples: int,
    seed: int,
    device: str,
    stop_texts: tuple[str, ...],
    best_of: int | None,
    as_json: bool,
) -> None:
    """Continue a prompt with the model in RUN.

    RUN is a run folder, a checkpoint, or a folder that `build --out` or `import-hf` made.
    """
    from gptzoo.checkpoint.folder import load
    from gptzoo.sampling import text
    from gptzoo.training.device import choose_device

    processors: list[dict[str, Any]] = [{"type": "temperature", "value": temperature}]
    if top_k is not None:
        processors.append({"type": "top_k", "k": top_k})
    if top_p is not None:
        processors.append({"type": "top_p", "p": top_p})
    loaded = load(run, device=choose_device(device))
    spec = text.text_spec(
        loaded, max_new_tokens=max_new_tokens, processors=processors, stop_texts=stop_texts, seed=seed
    )

    if num_samples == 1 and best_of is None and not as_json:
        click.echo(prompt, nl=False)
        for piece in text.stream_text(loaded, prompt, spec):
            click.echo(piece, nl=False)
        click.echo()
        return
    started = time.perf_counter()
    (samples,) = text.sample_texts(loaded, [prompt], spec, max(num_samples, best_of or 1))
    if best_of is not None:
        samples = text.best_of(samples, num_samples)
    seconds = time.perf_counter() - started
    if as_json:
        report = {"model": str(loaded.folder), "prompt": prompt, "sampling": spec.model_dump(mode="json")}
        click.echo(
            json.dumps({**report, "samples": [asdict(one) for one in samples], "seconds": seconds}, ensure_ascii=False)
        )
        return
    for number, one in enumerate(samples, start=1):
        click.echo(f"{'' if number == 1 else chr(10)}--- sample {number}\n{prompt}{one.text}")
