"""What an executor owes: each job once, the exit code that it had, and nothing that outlives it.

A job of the kit is `gptzoo plugins --plugin FILE`, where the file does what is to be seen, and leaves traces beside it.
"""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gptzoo.ablation.execution.executor import Executor, Job
from gptzoo.ablation.execution.local_executor import LocalExecutor
from gptzoo.spec.files import load_ablation_spec
from gptzoo.testing.subject import Subject
from gptzoo.testing.verdict import Failed
from gptzoo.training.run.metrics_file import read
from gptzoo.training.run.verify_resume import CLOCKED

_PATIENCE = 300.0  # seconds until a job must have begun or ended: a cluster may have a queue
_INTERRUPTED = 4  # the exit code of gptzoo train after SIGTERM

_TRACES = """
import os, pathlib, signal, sys, time

traces = pathlib.Path(__file__).parent


def save(*_):
    (traces / "saved").touch()
    os._exit({interrupted})


signal.signal(signal.SIGTERM, save)
print("on stdout", flush=True)
print("on stderr", file=sys.stderr, flush=True)
beats = open(traces / "beats", "a")
with open(traces / "begun", "a") as begun:
    begun.write("once ")
"""
_STAY = """
while (traces / "begun").exists():
    beats.write(".")
    beats.flush()
    time.sleep(0.05)
os._exit(1)
"""
_STAY_WHATEVER_IS_ASKED = f"signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{_STAY}"
_DIE = "os.kill(os.getpid(), signal.SIGKILL)"


def running(subject: Subject) -> None:
    """Each job that it is given runs, once, and its log has all that it says; there is room again when it has ended."""
    with _folder() as folder, subject.config.build() as executor:
        if executor.free_slots < 1:
            raise Failed(f"room is {executor.free_slots} before anything was started")
        jobs = {f"job {n}": _job(folder / str(n), "os._exit(0)") for n in range(1, 4)}
        for name, code in _codes(executor, jobs).items():
            if code != 0:
                raise Failed(f"{name} exits with 0 and is told to have ended with {code}; its log: {_said(jobs[name])}")
        for name, job in jobs.items():
            for words in ("on stdout", "on stderr"):
                if words not in _said(job):
                    raise Failed(f"{name} says {words!r}, which is not in its log: {_said(job)!r}")
        if executor.free_slots < 1:
            raise Failed(f"room is {executor.free_slots} after all jobs have ended")


def codes(subject: Subject) -> None:
    """The exit code of a job is told as it was, negative for a signal that killed it, however often it is asked for."""
    expected = {"a job that exits with 3": 3, "a job that exits with 137": 137, "a job that SIGKILL ends": -9}
    acts = ("os._exit(3)", "os._exit(137)", _DIE)
    with _folder() as folder, subject.config.build() as executor:
        jobs = {name: _job(folder / str(n), act) for n, (name, act) in enumerate(zip(expected, acts, strict=True))}
        for name, code in _codes(executor, jobs).items():
            if code != expected[name]:
                raise Failed(f"{name} is told to have ended with {code}; {expected[name]} would be right")


def stopping(subject: Subject) -> None:
    """A job that is told to stop saves and ends, one that is killed ends; one that has ended may be told so too."""
    with _folder() as folder, subject.config.build() as executor:
        staying = executor.start(_job(folder / "staying", _STAY))
        _await_begin(executor, staying, folder / "staying")
        executor.stop(staying)
        code = _end_of(executor, staying, "a job that was told to stop")
        if code != _INTERRUPTED:
            raise Failed(f"a job that is told to stop ends with {code}; after SIGTERM it saves, and exits with 4")
        executor.stop(staying)
        stubborn = executor.start(_job(folder / "stubborn", _STAY_WHATEVER_IS_ASKED))
        _await_begin(executor, stubborn, folder / "stubborn")
        executor.stop(stubborn, kill=True)
        if (code := _end_of(executor, stubborn, "a job that was killed")) >= 0:
            raise Failed(f"a job that is killed is told to have ended with {code}, which is no signal's")
        if _lives(folder / "stubborn"):
            raise Failed("a job that is killed is told to have ended, and goes on")
        executor.stop(stubborn, kill=True)


def leaving(subject: Subject) -> None:
    """At the end of its `with` block what still runs has saved and ended."""
    with _folder() as folder:
        with subject.config.build() as executor:
            _await_begin(executor, executor.start(_job(folder, _STAY)), folder)
        if _lives(folder):
            raise Failed("a job goes on after the end of the `with` block")
        if not (folder / "saved").exists():
            raise Failed("a job that runs at the end of the `with` block cannot save: it gets no SIGTERM, or no time")


def tables(subject: Subject) -> None:
    """An ablation comes to the tables that it comes to on the executor `local`, a trial that fails included."""
    with _folder() as folder:
        there, here = (
            _ablated(folder / name, config)
            for name, config in (("there", subject.config), ("here", LocalExecutor.Config(n_workers=1)))
        )
        for name, rows in here.items():
            if there[name] != rows:
                theirs, ours = _first_difference(there[name], rows)
                raise Failed(f"{name}: {theirs}; on `local`: {ours}")


# ---------------------------------------------------------------------- jobs


@contextmanager
def _folder() -> Iterator[Path]:
    # What is left running by an executor that is broken may write while this is removed, which ends it.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _job(folder: Path, act: str) -> Job:
    """One that leaves traces in the folder, and then acts."""
    folder.mkdir(exist_ok=True)
    file = folder / "what it does.py"
    file.write_text(_TRACES.format(interrupted=_INTERRUPTED) + act + "\n", encoding="utf-8")
    return Job(("plugins", "--plugin", str(file)), folder / "job.log")


def _codes(executor: Executor, jobs: Mapping[str, Job]) -> dict[str, int]:
    """Run the jobs, as many at a time as there is room for; the exit code of each. Raises Failed if one is not run."""
    waiting, handles, found = list(jobs), dict[str, Any](), dict[str, int]()
    while waiting or handles:
        while waiting and executor.free_slots > 0:
            handles[waiting[0]] = executor.start(jobs[waiting[0]])
            waiting.pop(0)
        name = next(iter(handles))
        found[name] = _end_of(executor, handles[name], name)
        if (again := executor.poll(handles.pop(name))) != found[name]:
            raise Failed(f"{name} is told to have ended with {found[name]} and, when asked again, with {again}")
    for name, job in jobs.items():
        begun = job.log.with_name("begun")
        n = begun.read_text(encoding="utf-8").count("once") if begun.exists() else 0
        if n != 1:
            raise Failed(f"{name} was run {n} times; its log: {_said(job)!r}")
    return found


def _end_of(executor: Executor, handle: Any, name: str) -> int:
    until = time.monotonic() + _PATIENCE
    while (code := executor.poll(handle)) is None:
        if time.monotonic() > until:
            raise Failed(f"{name} is not told to have ended, {_PATIENCE:g} s later")
        executor.wait([handle], 0.5)
    return code


def _await_begin(executor: Executor, handle: Any, folder: Path) -> None:
    until = time.monotonic() + _PATIENCE
    while not (folder / "begun").exists():
        if (code := executor.poll(handle)) is not None or time.monotonic() > until:
            told = "it has not begun" if code is None else f"it is told to have ended with {code}"
            raise Failed(f"a job is to run until it is told to stop, and {told}")
        executor.wait([handle], 0.1)
    if (code := executor.poll(handle)) is not None:
        raise Failed(f"a job that still runs is told to have ended with {code}")


def _lives(folder: Path) -> bool:
    """Whether the job that leaves its traces there still does, a second from now."""
    time.sleep(1.0)  # in which what was told to end may get there: a cluster is told by files
    before = (folder / "beats").stat().st_size
    time.sleep(0.5)
    return (folder / "beats").stat().st_size > before


def _said(job: Job) -> str:
    return job.log.read_text(encoding="utf-8", errors="replace").strip() if job.log.exists() else ""


# ---------------------------------------------------------------------- an ablation


def _ablated(folder: Path, executor: Any) -> dict[str, list[str]]:
    """What a small ablation comes to: the tables that it prints, and the metrics of each trial without the clock."""
    from gptzoo.ablation.ablate import ablate  # which takes a second to import, with all statistics
    from gptzoo.ablation.terminal.outcome import print_outcome
    from gptzoo.ablation.terminal.tables import plain_console

    spec = load_ablation_spec(
        {
            "name": "conformance",
            "base": {
                "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
                "corpus": {"type": "stories", "n_stories": 60},
                "batch_size": 4,
                "steps": 6,
                "eval": {"every": 3},
                "checkpoint": {"every": 2},
                "device": "cpu",
            },
            "axes": {"optimizer.lr": [0.001, 0.01, 1e30]},  # the last one diverges
            "seeds": 2,
            "samples": False,
        }
    )
    outcome = ablate(spec.model_copy(update={"executor": executor}), folder)
    console = plain_console()
    with console.capture() as told:
        print_outcome(outcome, console)
    trials = {
        trial.parent.name: [
            str({name: value for name, value in row.items() if name not in CLOCKED}) for row in read(trial)
        ]
        for trial in sorted(folder.glob("trials/*/metrics.jsonl"))
    }
    return {"the tables": told.get().splitlines(), **trials}


def _first_difference(these: list[str], those: list[str]) -> tuple[str, str]:
    pairs = itertools.zip_longest(these, those, fillvalue="nothing more")
    return next((a, b) for a, b in pairs if a != b)
