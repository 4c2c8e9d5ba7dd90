"""`gptzoo sample`: generate text with a run, a checkpoint or a model folder."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gptzoo.cli.inputs import check_text, read_chat_template, read_model, read_text
from gptzoo.cli.interactive import PromptReader, chat_interactively, sample_interactively
from gptzoo.cli.option_sections import SectionedCommand, option, section
from gptzoo.cli.options import (
    CHAT_TEMPLATE,
    SPECIAL_TOKENS,
    compile_option,
    dtype_option,
    json_option,
    model_options,
    plugin_option,
)
from gptzoo.cli.sampling import read_strategy
from gptzoo.cli.sampling_options import sampling_options
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from gptzoo.sampling.inference_weights import WeightFormat
    from gptzoo.sampling.strategy import Strategy
    from gptzoo.sampling.text_stream import Sample


@click.command(cls=SectionedCommand)
@click.argument("run", type=click.Path(path_type=Path))
@section(
    "Prompt",
    option("--prompt", help="Text to continue (default: start a new text)."),
    option("--file", metavar="FILE|-", help="File with the text to continue; - for stdin."),
    option(
        "--prompts",
        "prompts_file",
        metavar="JSONL",
        type=click.Path(path_type=Path),
        help="File with many prompts, one per line. Needs --out.",
    ),
    option("--interactive", is_flag=True, help="Read prompts from the terminal until the end of input."),
    option("--special-tokens", **SPECIAL_TOKENS),
)
@section(
    "Chat",
    option(
        "--chat",
        is_flag=True,
        help="Read a prompt as a message of the user, by the model's chat template. Without one, chat on the terminal.",
    ),
    option("--system", metavar="TEXT", help="For --chat: the system message before the first message."),
    option("--chat-template", **CHAT_TEMPLATE),
)
@section(
    "Samples",
    option(
        "--num-samples", type=click.IntRange(min=1), default=1, show_default=True, help="Number of samples per prompt."
    ),
    option("--seed", type=click.IntRange(min=0), help="Random seed (default: 1)."),
    option(
        "--out",
        metavar="JSONL",
        type=click.Path(path_type=Path),
        help="Output file for --prompts. An existing file is resumed.",
    ),
    option("--rows", type=click.IntRange(min=1), default=8, show_default=True, help="Batch size for --prompts."),
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
    special_tokens: bool,
    chat: bool,
    system: str | None,
    chat_template: str | None,
    num_samples: int,
    out: Path | None,
    rows: int,
    checkpoint: str,
    averaged: bool,
    device: str,
    dtype: WeightFormat,
    compile: bool,
    as_json: bool,
    **options: Any,  # noqa: ANN401  the options of sampling_options
) -> None:
    """Continue a prompt with the model in RUN.

    RUN is a run folder, a checkpoint, or a model folder made by `build --out` or `import-hf`. A sample depends only on
    the prompt, the options, the seed and its own index, not on the number of samples.
    """
    from gptzoo.data.chat.prompt import find_template

    best_of = options["best_of"]
    if not chat and (system is not None or chat_template is not None):
        raise click.UsageError("--system and --chat-template need --chat")
    if chat and special_tokens:
        raise click.UsageError("--special-tokens has no effect with --chat: the chat template writes special tokens")
    interactive = interactive or (chat and prompt is None and file is None and prompts_file is None)
    sources = {"--prompt": prompt, "--file": file, "--prompts": prompts_file, "--interactive": interactive or None}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} cannot be combined")
    if (prompts_file is None) != (out is None):
        raise click.UsageError("--prompts and --out must be given together")
    if prompts_file is not None and as_json:
        raise click.UsageError("--json has no effect with --prompts: the lines of --out are JSON")
    if interactive and (as_json or num_samples > 1 or best_of):
        raise click.UsageError("--interactive prints one sample per prompt as text, without --json or --best-of")
    if best_of is not None and best_of < num_samples:
        raise click.UsageError(f"--best-of {best_of} is less than --num-samples {num_samples}")

    batch_size = (best_of or num_samples) if prompts_file is None else rows
    one_row = batch_size == 1 and all(options[name] is None for name in ("beams", "contrastive", "draft"))
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
    template = read_chat_template(loaded, chat_template)
    system = None if system is None else check_text(system, "--system")
    prompts = PromptReader(loaded, chat, system, template, special_tokens)
    if interactive and chat:
        find_template(strategy.tokenizer, template)  # reports a missing template before the first message
        chat_interactively(strategy, prompts)
    elif interactive:
        sample_interactively(strategy, prompts)
    elif prompts_file is not None and out is not None:
        _sample_prompt_file(strategy, prompts, prompts_file, out, num_samples, best_of, rows)
    else:
        text = check_text(prompt or "", "--prompt") if file is None else read_text(file)
        _sample_prompt(strategy, prompts, text, num_samples, best_of, as_json)


def _sample_prompt(
    strategy: Strategy, prompts: PromptReader, text: str, n: int, best_of: int | None, as_json: bool
) -> None:
    """Print the samples of one prompt. A single one is streamed. A sample follows its prompt, except in a chat."""
    strategy.check_options(best_of or n)
    prompt, shown = prompts.read(text), "" if prompts.is_chat else text
    strategy.check(prompt, best_of or n)
    if n == 1 and best_of is None and not as_json:
        click.echo(shown, nl=False)
        pieces = strategy.stream(prompt)
        try:
            while True:
                click.echo(next(pieces), nl=False)
        except StopIteration as end:
            click.echo()
            _note_unmet_constraints(strategy, {"the text": end.value})
        return
    started = time.perf_counter()
    samples = strategy.samples(prompt, n, best_of)
    seconds = time.perf_counter() - started
    _note_unmet_constraints(strategy, {f"sample {number}": sample for number, sample in enumerate(samples, start=1)})
    if as_json:
        report = {"model": str(strategy.loaded.folder), "prompt": text, **_settings(strategy), **prompts.settings()}
        results = {"samples": list(map(_as_dict, samples)), "seconds": seconds}
        click.echo(to_json({**report, **results}))
        return
    for number, generated in enumerate(samples, start=1):
        separator = "" if number == 1 else "\n"
        click.echo(f"{separator}--- sample {number}\n{shown}{generated.text}")


def _note_unmet_constraints(strategy: Strategy, samples: Mapping[str, Sample]) -> None:
    """Print a note for each sample, by name, that was cut off before it matched a grammar or had the forced text."""
    for name, sample in samples.items():
        if unmet := strategy.unmet_constraints(sample):
            click.echo(
                f"note: {name} ends by {sample.finish_reason!r} before it meets {' and '.join(unmet)}. "
                "Try a larger --max-new-tokens.",
                err=True,
            )


def _settings(strategy: Strategy) -> dict[str, Any]:
    """Return the strategy and the sampling spec as JSON values."""
    return {"strategy": strategy.describe(), "sampling": strategy.spec.model_dump(mode="json")}


def _as_dict(sample: Sample) -> dict[str, Any]:
    """Return a sample as JSON values."""
    fields = {("end" if name == "finish_reason" else name): value for name, value in asdict(sample).items()}
    return {**fields, "mean_log_probability": sample.mean_log_probability}


def _sample_prompt_file(
    strategy: Strategy,
    reader: PromptReader,
    prompts_file: Path,
    out: Path,
    n: int,
    best_of: int | None,
    n_slots: int,
) -> None:
    """Append the samples of all prompts in a file to `out`, except for prompts that already have samples."""
    from rich.console import Console
    from rich.progress import Progress

    from gptzoo.errors import GptzooError
    from gptzoo.sampling.prompt_file import ResultFile, read_prompts

    prompts = read_prompts(prompts_file)
    strategy.check_options(best_of or n)
    errors: dict[int, Exception] = {}  # by line number
    with (
        ResultFile(out, _job_digest(strategy, reader, n, best_of)) as results,
        Progress(console=Console(stderr=True)) as bar,
    ):
        remaining = results.remaining(prompts)
        n_done = len(prompts) - len(remaining)
        task = bar.add_task("prompts", total=len(prompts), completed=n_done)
        texts = [reader.read(prompt.text) for prompt in remaining]

        def record(index: int, error: Exception) -> None:
            errors[remaining[index].line] = error
            results.add_error(remaining[index], error)
            bar.advance(task)

        unmet: dict[str, Sample] = {}
        for index, samples in strategy.samples_of_prompts(texts, n, best_of, n_slots, record):
            results.add(remaining[index], {"samples": list(map(_as_dict, samples))})
            place = f"{prompts_file}:{remaining[index].line}: sample"
            unmet |= {
                f"{place} {number}": s for number, s in enumerate(samples, start=1) if strategy.unmet_constraints(s)
            }
            bar.advance(task)
    _note_unmet_constraints(strategy, unmet)
    skipped = f" ({n_done} already done)" if n_done else ""
    click.echo(f"wrote {out}: {len(remaining)} prompts{skipped}", err=True)
    if errors:
        for line, error in sorted(errors.items()):
            name = "" if isinstance(error, GptzooError) else f"{type(error).__name__}: "
            click.echo(f"{prompts_file}:{line}: {name}{error}", err=True)
        raise GptzooError(
            f"{len(errors)} of {len(remaining)} prompts failed. Their lines in {out} have the error. "
            "Run the same command to try them again."
        )


# Fields of the sampling spec that result files of older versions do not count. Files of both versions can be resumed.
_UNCOUNTED_DEFAULTS = {"min_new_tokens": 0, "ignore_eos": False, "include_stop_text": False}


def _job_digest(strategy: Strategy, reader: PromptReader, n: int, best_of: int | None) -> str:
    """Return a digest of the weights and of all options that the samples depend on."""
    import torch

    weights = hashlib.sha256()
    for name, tensor in strategy.loaded.model.state_dict().items():
        weights.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        weights.update(tensor.cpu().contiguous().view(-1).view(torch.uint8).numpy())
    settings = {**_settings(strategy), **reader.settings()}
    for name, default in _UNCOUNTED_DEFAULTS.items():
        if settings["sampling"][name] == default:
            del settings["sampling"][name]
    parts = [weights.hexdigest(), settings, n, best_of]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
