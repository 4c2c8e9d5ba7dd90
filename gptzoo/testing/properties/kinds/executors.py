"""Properties of executors: every job runs once, its exit code is reported, and no job outlives the executor."""

from __future__ import annotations

import itertools
from pathlib import Path

from gptzoo.ablation.execution.local_executor import LocalExecutor
from gptzoo.component import Config
from gptzoo.spec.files import load_ablation_spec
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.kinds.probe_jobs import (
    IGNORE_SIGTERM,
    KILL_ITSELF,
    RUN_FOREVER,
    SAVED_EXIT_CODE,
    is_running,
    job_folder,
    probe_job,
    read_log,
    run_jobs,
    wait_for_end,
    wait_for_start,
)
from gptzoo.testing.verdict import Failed
from gptzoo.training.run.metrics_file import read_metrics
from gptzoo.training.run.verify_resume import MACHINE_METRICS


def check_running(subject: ComponentUnderTest) -> None:
    """Check that every job runs once, has its output in its log, and frees its slot at the end."""
    with job_folder() as folder, subject.config.build() as executor:
        if executor.free_slots < 1:
            raise Failed(f"free_slots is {executor.free_slots} before any job was started")
        jobs = {f"job {n}": probe_job(folder / str(n), "os._exit(0)") for n in range(1, 4)}
        for name, exit_code in run_jobs(executor, jobs).items():
            if exit_code != 0:
                raise Failed(f"{name} exits with 0, but poll() returns {exit_code}; its log: {read_log(jobs[name])}")
        for name, job in jobs.items():
            for text in ("on stdout", "on stderr"):
                if text not in read_log(job):
                    raise Failed(f"{name} prints {text!r}, which is not in its log: {read_log(job)!r}")
        if executor.free_slots < 1:
            raise Failed(f"free_slots is {executor.free_slots} after all jobs have ended")


def check_exit_codes(subject: ComponentUnderTest) -> None:
    """Check that `poll` returns the exit code of a job, negative for the signal that killed it, on every call."""
    expected = {"a job that exits with 3": 3, "a job that exits with 137": 137, "a job that is killed by SIGKILL": -9}
    actions = ("os._exit(3)", "os._exit(137)", KILL_ITSELF)
    with job_folder() as folder, subject.config.build() as executor:
        jobs = {
            name: probe_job(folder / str(index), action)
            for index, (name, action) in enumerate(zip(expected, actions, strict=True))
        }
        for name, exit_code in run_jobs(executor, jobs).items():
            if exit_code != expected[name]:
                raise Failed(f"for {name}, poll() returns {exit_code}; expected {expected[name]}")


def check_stopping(subject: ComponentUnderTest) -> None:
    """Check that `stop` lets a job save and end, `stop(kill=True)` ends any job, and both may be repeated."""
    with job_folder() as folder, subject.config.build() as executor:
        saving = executor.start(probe_job(folder / "saving", RUN_FOREVER))
        wait_for_start(executor, saving, folder / "saving")
        executor.stop(saving)
        exit_code = wait_for_end(executor, saving, "a stopped job")
        if exit_code != SAVED_EXIT_CODE:
            raise Failed(f"a stopped job ends with {exit_code}; expected {SAVED_EXIT_CODE}, after it saves on SIGTERM")
        executor.stop(saving)
        stubborn = executor.start(probe_job(folder / "stubborn", IGNORE_SIGTERM))
        wait_for_start(executor, stubborn, folder / "stubborn")
        executor.stop(stubborn, kill=True)
        if (exit_code := wait_for_end(executor, stubborn, "a killed job")) >= 0:
            raise Failed(f"for a killed job, poll() returns {exit_code}; expected the negative number of a signal")
        if is_running(folder / "stubborn"):
            raise Failed(f"for a killed job, poll() returns {exit_code}, but the job is still running")
        executor.stop(stubborn, kill=True)


def check_leaving(subject: ComponentUnderTest) -> None:
    """Check that at the end of the `with` block every job that still runs saves and ends."""
    with job_folder() as folder:
        with subject.config.build() as executor:
            wait_for_start(executor, executor.start(probe_job(folder, RUN_FOREVER)), folder)
        if is_running(folder):
            raise Failed("a job is still running after the end of the `with` block")
        if not (folder / "saved").exists():
            raise Failed("a job that runs at the end of the `with` block gets no SIGTERM, or no time to save")


def check_tables(subject: ComponentUnderTest) -> None:
    """Check that an ablation, including a trial that diverges, gives the same tables as on the executor `local`."""
    with job_folder() as folder:
        tables = _ablation_tables(folder / "tested", subject.config)
        local_tables = _ablation_tables(folder / "local", LocalExecutor.Config(n_workers=1))
        for name, local_lines in local_tables.items():
            if tables[name] != local_lines:
                line, local_line = _first_difference(tables[name], local_lines)
                raise Failed(f"{name}: {line}; on `local`: {local_line}")


def _ablation_tables(folder: Path, executor: Config) -> dict[str, list[str]]:
    """Run a small ablation. Return the lines of its tables, and of the metrics of each trial without timings."""
    from gptzoo.ablation.ablate import ablate  # takes a second to import, with all statistics
    from gptzoo.ablation.terminal.print_outcome import print_outcome
    from gptzoo.terminal.text_table import plain_console

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
    with console.capture() as output:
        print_outcome(outcome, console)
    trials = {
        file.parent.name: [
            str({name: value for name, value in row.items() if name not in MACHINE_METRICS})
            for row in read_metrics(file)
        ]
        for file in sorted(folder.glob("trials/*/metrics.jsonl"))
    }
    return {"the tables": output.get().splitlines(), **trials}


def _first_difference(lines: list[str], other_lines: list[str]) -> tuple[str, str]:
    pairs = itertools.zip_longest(lines, other_lines, fillvalue="nothing more")
    return next((line, other) for line, other in pairs if line != other)
