"""`gptzoo prepare`: tokenization ahead of training."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gptzoo.cli.options import json_option, plugin_option, set_option, verify_option
from gptzoo.utils.json_text import to_json

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from gptzoo.component import Config
    from gptzoo.data.prepare import ProgressCallback
    from gptzoo.data.shards import Counts
    from gptzoo.data.token_store import TokenStore

_SECONDS_BETWEEN_LINES = 10.0
_SECONDS_BETWEEN_REDRAWS = 0.1


class _Source(NamedTuple):
    argument: str
    corpus: Config
    tokenizer: Config
    keep_duplicates: bool = False  # True for a run of an older version


@click.command()
@click.argument("sources", metavar="RUN_OR_CORPUS...", nargs=-1, required=True)
@click.option(
    "--tokenizer",
    default="byte",
    show_default=True,
    help="Tokenizer for a corpus: a name, or JSON with options. A run spec sets its own.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Number of processes (default: one per CPU core).")
@verify_option
@json_option
@set_option
@plugin_option
def prepare(
    sources: tuple[str, ...],
    tokenizer: str,
    workers: int | None,
    verify: bool,
    as_json: bool,
    overrides: tuple[str, ...],
) -> None:
    """Tokenize the text of runs or corpora ahead of training, in parallel.

    The output says how much of the held-out text is also in the training text. Training documents that equal a held-out
    one except for whitespace are left out.

    RUN_OR_CORPUS is a run spec, a run folder, the name of a corpus, or a corpus as inline JSON or in a file. Training
    reads the tokens from the cache, $GPTZOO_CACHE or ~/.cache/gptzoo. After an interruption, the same command continues
    where it stopped.
    """
    from gptzoo.data.file_checksums import verify_files
    from gptzoo.data.prepare import prepare as prepare_store

    read_sources = [_read_source(argument, tokenizer, overrides) for argument in sources]
    results = []
    for source in read_sources:
        check = verify_files() if verify else contextlib.nullcontext()
        with check, _show_progress(source.argument) as progress:
            _, store = prepare_store(
                source.corpus.build(),
                source.tokenizer,
                workers=workers or _n_usable_cores(),
                progress=progress,
                keep_duplicates=source.keep_duplicates,
            )
        results.append(_to_json(source, store))
        if not as_json:
            _print(results[-1])
    if as_json:
        click.echo(to_json(results, indent=2))


def _n_usable_cores() -> int:
    """Return the number of cores that this process may use, which can be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _read_source(argument: str, tokenizer: str, overrides: tuple[str, ...]) -> _Source:
    """Read a run or a corpus. Raises SpecError or DataError."""
    from gptzoo.cli.inputs import read_component, read_corpus
    from gptzoo.spec.run import RunSpec

    run_or_corpus = read_corpus(argument, overrides)
    if isinstance(run_or_corpus, RunSpec):
        from gptzoo.training.run.run_folder import RunFolder

        is_run_folder = not argument.lstrip().startswith("{") and Path(argument).is_dir()
        keep_duplicates = is_run_folder and RunFolder(argument).keeps_duplicates
        return _Source(argument, run_or_corpus.corpus, run_or_corpus.tokenizer, keep_duplicates)
    return _Source(argument, run_or_corpus, read_component("tokenizer", tokenizer, "--tokenizer"))


# ---------------------------------------------------------------------- output


def _to_json(source: _Source, store: TokenStore) -> dict[str, Any]:
    return {
        "source": source.argument,
        "corpus": source.corpus.model_dump(mode="json"),
        "tokenizer": source.tokenizer.model_dump(mode="json"),
        "folder": str(store.folder),
        "fingerprint": store.fingerprint,
        "vocab_size": store.vocab_size,
        "splits": {
            split: {
                "tokens": len(getattr(store, split)),
                "documents": len(store.spans[split]),
                "bytes": store.n_bytes[split],
                "text": None if store.texts is None else store.texts[split],
            }
            for split in ("train", "val")
        },
        "overlap": None if store.overlap is None else {**asdict(store.overlap), "sentence": store.overlap.describe()},
    }


def _print(result: dict[str, Any]) -> None:
    click.echo(f"{result['source']}: corpus {result['corpus']['type']}, tokenizer {result['tokenizer']['type']}")
    for split, counts in result["splits"].items():
        numbers = "  ".join(f"{counts[name]:>15,} {name}" for name in ("tokens", "documents", "bytes"))
        click.echo(f"  {split:<6}{numbers}")
    click.echo(f"  vocabulary   {result['vocab_size']:,}")
    click.echo(f"  fingerprint  {result['fingerprint']}")
    click.echo(f"  folder       {result['folder']}")
    if result["overlap"] is not None:
        click.echo(f"  overlap      {result['overlap']['sentence']}")


# ---------------------------------------------------------------------- progress


@contextlib.contextmanager
def _show_progress(source: str) -> Iterator[ProgressCallback]:
    """Show progress on stderr: a bar in a terminal, else a line every ten seconds and after each stage."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _ProgressLines(source)
        yield lines
        lines.end()
        return
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[numbers]}")
    # No refresh thread: worker processes are forked while the bar is shown.
    with Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False) as bar:
        report = _ProgressBar(bar)
        yield report
        report.end()


class _StageTotals:
    """A progress callback that sums the counts of the current stage."""

    def __init__(self) -> None:
        self.begin("")

    def begin(self, stage: str) -> None:
        self.stage, self.started = stage, time.monotonic()
        self.documents = self.n_bytes = 0

    def __call__(self, stage: str, counts: Counts) -> None:
        if stage != self.stage:
            self.end()
            self.begin(stage)
        self.documents += counts.documents
        self.n_bytes += counts.n_bytes
        self.update()

    def update(self) -> None:
        """Show the current totals if it is time to."""

    def end(self) -> None:
        """Show the final totals of the stage."""

    @property
    def numbers(self) -> str:
        speed = self.n_bytes / 1e6 / max(1e-9, time.monotonic() - self.started)
        return f"{self.n_bytes / 1e6:,.1f} MB, {speed:,.1f} MB/s, {self.documents:,} documents"


class _ProgressLines(_StageTotals):
    def __init__(self, source: str):
        self.source = source
        super().__init__()

    def begin(self, stage: str) -> None:
        super().begin(stage)
        self.last_printed = self.started

    def update(self) -> None:
        if time.monotonic() - self.last_printed >= _SECONDS_BETWEEN_LINES:
            self.print()

    def end(self) -> None:
        if self.stage:
            self.print()

    def print(self) -> None:
        self.last_printed = time.monotonic()
        print(f"{self.source}: {self.stage}: {self.numbers}", file=sys.stderr, flush=True)


class _ProgressBar(_StageTotals):
    """One bar per stage, without a total, because documents are streamed."""

    def __init__(self, bar: Progress):
        self.bar = bar
        self.task: TaskID | None = None
        self.last_drawn = 0.0
        super().__init__()

    def begin(self, stage: str) -> None:
        super().begin(stage)
        if stage:
            self.task = self.bar.add_task(stage, total=None, numbers="")

    def update(self) -> None:
        if self.task is not None and time.monotonic() - self.last_drawn >= _SECONDS_BETWEEN_REDRAWS:
            self.last_drawn = time.monotonic()
            self.bar.update(self.task, numbers=self.numbers, refresh=True)

    def end(self) -> None:
        if self.task is not None:
            self.bar.update(self.task, numbers=self.numbers, total=1, completed=1, refresh=True)
