"""gptzoo prepare: tokens ahead of training."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from gptzoo.cli.options import json_option, plugin_option, set_option

if TYPE_CHECKING:
    from gptzoo.component import Config
    from gptzoo.data.shards import Counts
    from gptzoo.data.token_store import ProgressCallback, TokenStore

_SECONDS_BETWEEN_LINES = 10.0


class _Job(NamedTuple):
    source: str
    corpus: Config
    tokenizer: Config


@click.command()
@click.argument("sources", metavar="RUN_OR_CORPUS...", nargs=-1, required=True)
@click.option("--tokenizer", default="byte", show_default=True, help="For a corpus: a name, or JSON with options.")
@click.option("--workers", type=click.IntRange(min=1), help="Processes that tokenize; left out, one for each core.")
@json_option
@set_option
@plugin_option
def prepare(
    sources: tuple[str, ...], tokenizer: str, workers: int | None, as_json: bool, overrides: tuple[str, ...]
) -> None:
    """Tokenize what runs will read, ahead of training, in parallel.

    RUN_OR_CORPUS is a run spec or a run folder; or the name of a corpus, or its JSON, inline or in a file. Killed and
    started again, it goes on where it was. Training then finds the tokens in $GPTZOO_CACHE, or ~/.cache/gptzoo.
    """
    from gptzoo.data.token_store import prepare as prepare_store

    jobs = [_job(source, tokenizer, overrides) for source in sources]
    rows = []
    for job in jobs:
        with _progress(job.source) as report:
            _, store = prepare_store(job.corpus.build(), job.tokenizer, workers=workers or _cores(), progress=report)
        rows.append(_as_data(job, store))
        if not as_json:
            _print(rows[-1])
    if as_json:
        click.echo(json.dumps(rows, indent=2))


def _cores() -> int:
    """Those that this process may use, which on a shared machine are fewer than it has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ---------------------------------------------------------------------- what to prepare


def _job(source: str, tokenizer: str, overrides: tuple[str, ...]) -> _Job:
    """Raises SpecError for what is neither a run nor a corpus."""
    from gptzoo.cli.reading import read_component, read_corpus
    from gptzoo.spec.run import RunSpec

    found = read_corpus(source, overrides)
    if isinstance(found, RunSpec):
        return _Job(source, found.corpus, found.tokenizer)
    return _Job(source, found, read_component("tokenizer", tokenizer, "--tokenizer"))


# ---------------------------------------------------------------------- what came of it


def _as_data(job: _Job, store: TokenStore) -> dict[str, Any]:
    return {
        "source": job.source,
        "corpus": job.corpus.model_dump(mode="json"),
        "tokenizer": job.tokenizer.model_dump(mode="json"),
        "folder": str(store.folder),
        "fingerprint": store.fingerprint,
        "vocab_size": store.vocab_size,
        "splits": {
            split: {
                "tokens": len(getattr(store, split)),
                "documents": len(store.spans[split]),
                "bytes": store.n_bytes[split],
            }
            for split in ("train", "val")
        },
    }


def _print(row: dict[str, Any]) -> None:
    click.echo(f"{row['source']}: corpus {row['corpus']['type']}, tokenizer {row['tokenizer']['type']}")
    for split, counts in row["splits"].items():
        numbers = "  ".join(f"{counts[name]:>15,} {name}" for name in ("tokens", "documents", "bytes"))
        click.echo(f"  {split:<6}{numbers}")
    click.echo(f"  vocabulary   {row['vocab_size']:,}")
    click.echo(f"  fingerprint  {row['fingerprint']}")
    click.echo(f"  in           {row['folder']}")


# ---------------------------------------------------------------------- while it works


@contextlib.contextmanager
def _progress(source: str) -> Iterator[ProgressCallback]:
    """On stderr: a bar where it is a terminal, else a line every ten seconds and one at the end of each stage."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    if not console.is_terminal:
        lines = _Lines(source)
        yield lines
        lines.end()
        return
    columns = TextColumn("{task.description}"), BarColumn(bar_width=16), TextColumn("{task.fields[numbers]}")
    # Without the thread that would redraw it: processes are forked meanwhile.
    with Progress(*columns, TimeElapsedColumn(), console=console, auto_refresh=False) as bar:
        report = _Bar(bar)
        yield report
        report.end()


class _Stages:
    """Adds up what is reported of each stage."""

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
        self.show()

    def show(self) -> None:
        """What is known now."""

    def end(self) -> None:
        """The stage is over."""

    @property
    def numbers(self) -> str:
        speed = self.n_bytes / 1e6 / max(1e-9, time.monotonic() - self.started)
        return f"{self.n_bytes / 1e6:,.1f} MB, {speed:,.1f} MB/s, {self.documents:,} documents"


class _Lines(_Stages):
    def __init__(self, source: str):
        self.source = source
        super().__init__()

    def begin(self, stage: str) -> None:
        super().begin(stage)
        self.last = self.started

    def show(self) -> None:
        if time.monotonic() - self.last >= _SECONDS_BETWEEN_LINES:
            self.say()

    def end(self) -> None:
        if self.stage:
            self.say()

    def say(self) -> None:
        self.last = time.monotonic()
        print(f"{self.source}: {self.stage}: {self.numbers}", file=sys.stderr, flush=True)


class _Bar(_Stages):
    """One line for each stage; how much is to come is not known, since documents are streamed."""

    def __init__(self, bar: Any):
        self.bar, self.task, self.drawn = bar, None, 0.0
        super().__init__()

    def begin(self, stage: str) -> None:
        super().begin(stage)
        if stage:
            self.task = self.bar.add_task(stage, total=None, numbers="")

    def show(self) -> None:
        if time.monotonic() - self.drawn >= 0.1:
            self.draw()

    def end(self) -> None:
        if self.task is not None:
            self.draw(total=1, completed=1)

    def draw(self, **changes: Any) -> None:
        self.drawn = time.monotonic()
        self.bar.update(self.task, numbers=self.numbers, refresh=True, **changes)
