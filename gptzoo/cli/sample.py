"""gptzoo sample: text from a run, a checkpoint or a model folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.options import compile_option, dtype_option, json_option, model_options, plugin_option
from gptzoo.cli.reading import read_model, read_text
from gptzoo.cli.sampling import read_strategy, sampling_options
from gptzoo.cli.sections import Sectioned, option, section

if TYPE_CHECKING:
    from gptzoo.sampling.strategies import Strategy
    from gptzoo.sampling.text import Sample
    from gptzoo.sampling.weights.prepare import Weights


@click.command(cls=Sectioned)
@click.argument("run", type=click.Path(path_type=Path))
@section(
    "What to go on from",
    option("--prompt", help="This text; left out, the start of a text."),
    option("--file", metavar="FILE|-", help="The text of a file, or of stdin."),
    option("--prompts", "prompts_file", metavar="JSONL", type=click.Path(path_type=Path), help="Many; with --out."),
    option("--interactive", is_flag=True, help="What you type, again and again."),
)
@section(
    "How much",
    option("--num-samples", type=click.IntRange(min=1), default=1, show_default=True),
    option("--seed", type=click.IntRange(min=0), help="Of what is drawn; 1 if left out."),
    option("--out", metavar="JSONL", type=click.Path(path_type=Path), help="Of --prompts; goes on where it ends."),
    option("--rows", type=click.IntRange(min=1), default=8, show_default=True, help="Of --prompts: side by side."),
)
@sampling_options
@dtype_option
@compile_option
@model_options
@json_option
@plugin_option
def sample(
    run: Path,
    prompt: str | None,
    file: str | None,
    prompts_file: Path | None,
    interactive: bool,
    num_samples: int,
    out: Path | None,
    rows: int,
    checkpoint: str,
    averaged: bool,
    device: str,
    dtype: Weights,
    compile: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Continue a prompt with the model in RUN.

    RUN is a run folder, a checkpoint, or a folder that `build --out` or `import-hf` made. A sample depends on the
    prompt, the options, the seed and its number alone, not on how many are written.
    """
    sources = {"--prompt": prompt, "--file": file, "--prompts": prompts_file, "--interactive": interactive or None}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} are two places for a prompt; give one")
    if (prompts_file is None) != (out is None):
        raise click.UsageError("--prompts and --out go together")
    if interactive and (as_json or num_samples > 1 or options["best_of"]):
        raise click.UsageError("--interactive writes one sample after each prompt, as text")
    if options["best_of"] is not None and options["best_of"] < num_samples:
        raise click.UsageError(f"--best-of {options['best_of']} cannot keep {num_samples} samples")

    one_row = (options["best_of"] or num_samples) == 1 if prompts_file is None else rows == 1
    one_row = one_row and all(options[name] is None for name in ("beams", "contrastive", "draft"))
    loaded = read_model(
        run,
        checkpoint=checkpoint,
        averaged=averaged,
        device=device,
        dtype=dtype,
        one_row=one_row,
        compile=compile,
    )
    strategy = read_strategy(loaded, options, dtype, compile=compile)
    if interactive:
        _talk(strategy)
    elif prompts_file is not None and out is not None:
        _write_all(strategy, prompts_file, out, num_samples, options["best_of"], rows)
    else:
        text = prompt or "" if file is None else read_text(file)
        _write_one(strategy, text, num_samples, options["best_of"], as_json)


def _write_one(strategy: Strategy, prompt: str, n: int, best_of: int | None, as_json: bool) -> None:
    strategy.refuse(prompt, best_of or n)
    if n == 1 and best_of is None and not as_json:
        click.echo(prompt, nl=False)
        for piece in strategy.stream(prompt):
            click.echo(piece, nl=False)
        click.echo()
        return
    started = time.perf_counter()
    samples = strategy.samples(prompt, n, best_of)
    seconds = time.perf_counter() - started
    if as_json:
        report = {"model": str(strategy.loaded.folder), "prompt": prompt, **_described(strategy)}
        results = {"samples": list(map(_as_dict, samples)), "seconds": seconds}
        click.echo(json.dumps({**report, **results}))
        return
    for number, one in enumerate(samples, start=1):
        click.echo(f"{'' if number == 1 else chr(10)}--- sample {number}\n{prompt}{one.text}")


def _described(strategy: Strategy) -> dict[str, Any]:
    return {"strategy": strategy.describe(), "sampling": strategy.spec.model_dump(mode="json")}


def _as_dict(one: Sample) -> dict[str, Any]:
    return {**asdict(one), "mean_log_probability": one.mean_log_probability}


def _talk(strategy: Strategy) -> None:
    """Go on from what is typed, until stdin ends; what cannot be gone on from is told, and the next line is read."""
    from gptzoo.errors import InputError

    click.echo(
        "Type a text to go on from. Enter alone goes on with the last one; Ctrl-C stops it; Ctrl-D ends.", err=True
    )
    text = ""
    while (line := _typed()) is not None:
        text = line or text
        try:
            click.echo(text, nl=False)
            with contextlib.suppress(KeyboardInterrupt):
                for piece in strategy.stream(text):
                    click.echo(piece, nl=False)
                    text += piece
        except InputError as error:
            click.echo(f"\n{error}", nl=False, err=True)
        click.echo()


def _typed() -> str | None:
    if sys.stdin.isatty():
        with contextlib.suppress(ImportError):  # Windows has none
            import readline  # noqa: F401 (so that what is typed can be edited)
        click.echo("> ", nl=False, err=True)
    try:
        return input()
    except (EOFError, KeyboardInterrupt):
        return None


def _write_all(strategy: Strategy, prompts_file: Path, out: Path, n: int, best_of: int | None, n_rows: int) -> None:
    from rich.console import Console
    from rich.progress import Progress

    from gptzoo.sampling.prompt_file import Results, read_prompts

    prompts = read_prompts(prompts_file)
    for prompt in prompts:
        with _located(f"{prompts_file}:{prompt.line}"):
            strategy.refuse(prompt.text, best_of or n)
    with Results(out, _job(strategy, n, best_of)) as results, Progress(console=Console(stderr=True)) as bar:
        left = results.left(prompts)
        task = bar.add_task("prompts", total=len(prompts), completed=len(prompts) - len(left))
        for index, samples in strategy.many([prompt.text for prompt in left], n, best_of, n_rows):
            results.add(left[index], {"samples": list(map(_as_dict, samples))})
            bar.advance(task)
    before = len(prompts) - len(left)
    click.echo(f"wrote {out}: {len(left)} prompts{f', beside {before} that were there' if before else ''}", err=True)


@contextlib.contextmanager
def _located(place: str) -> Iterator[None]:
    from gptzoo.errors import InputError

    try:
        yield
    except InputError as error:
        raise type(error)(f"{place}: {error}") from None


def _job(strategy: Strategy, n: int, best_of: int | None) -> str:
    """A digest of all that decides what is written after a prompt."""
    import torch

    weights = hashlib.sha256()
    for name, tensor in strategy.loaded.model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    what = [weights.hexdigest(), _described(strategy), n, best_of]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
