"""Whole training runs, command against command: start-up, data, steps, evaluations and checkpoints.

"gptzoo"     gptzoo train @shakespeare-char, with evaluations of the whole held-out text, a plot and a sample
"bare"       the same with --bare: no loss curve, no sample
"reference"  python -m benchmarks.reference, which evaluates as much
"nanoGPT"    python train.py config/train_shakespeare_char.py in the checkout that --nanogpt names, with its README's
             settings for a CPU; it evaluates on `eval_iters` random batches

Needs --text tinyshakespeare.txt. Peak memory is a case of its own, measured in the same runs.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from benchmarks.harness.case import OURS, Case, LeftOut, Mismatch, Options
from benchmarks.harness.processes import Finished, run_command

STEPS, TINY_STEPS = 2000, 2
SHAPE = {"block_size": 64, "batch_size": 12, "n_layer": 4, "n_head": 4, "n_embd": 128, "dropout": 0.0}
SAME_LOSS = 0.1  # nats: batches and initial weights differ
TINY_SAME_LOSS = 1.0  # after two steps


def cases(options: Options) -> Iterator[Case | LeftOut]:
    if options.text is None:
        yield LeftOut("train", "needs a text. Give --text tinyshakespeare.txt")
        return
    runs = Runs(options, TINY_STEPS if options.tiny else STEPS, options.text)
    names = [OURS, "bare", "reference"]
    if options.nanogpt is not None:
        names.append("nanoGPT")
    settings = {"steps": runs.steps, "text": options.text.stat().st_size, **SHAPE}
    sides = {name: partial(runs.seconds, name) for name in names}
    yield Case("time", sides, runs.check, settings, rounds=3, untimed=0, warmup=0)
    memory = {name: partial(runs.gigabytes, name) for name in names}
    yield Case("peak memory", memory, runs.check, settings, unit="GB", rounds=3, untimed=0, warmup=0)
    if options.nanogpt is None:
        yield LeftOut("nanoGPT", "needs a checkout of nanoGPT. Give --nanogpt FOLDER")


class Runs:
    """The runs of all sides; the memory of a round is that of the round's timed run."""

    def __init__(self, options: Options, steps: int, text: Path):
        self.options, self.steps, self.text = options, steps, text.resolve()
        self.number = 0
        self.memory: dict[str, list[float]] = {}

    def seconds(self, name: str) -> float:
        finished, _ = self.run(name)
        self.memory.setdefault(name, []).append(finished.peak_bytes / 1e9)
        return finished.seconds

    def gigabytes(self, name: str) -> float:
        """Return the peak memory of a timed run, or of a new one if the times were measured earlier."""
        if not self.memory.get(name):
            self.seconds(name)
        return self.memory[name].pop(0)

    def check(self) -> None:
        """Raise Mismatch unless all sides end with about the same held-out loss."""
        if self.memory:
            return  # the sides have been checked for the case before
        losses = {name: self.run(name)[1] for name in self.names()}
        tolerance = TINY_SAME_LOSS if self.steps <= TINY_STEPS else SAME_LOSS
        if max(losses.values()) - min(losses.values()) > tolerance:
            raise Mismatch(f"held-out losses differ: {losses}")

    def names(self) -> list[str]:
        return [OURS, "reference"] + (["nanoGPT"] if self.options.nanogpt is not None else [])

    def run(self, name: str) -> tuple[Finished, float]:
        """Train once. Return the command's time and memory, and the last held-out loss."""
        self.number += 1
        out = self.options.folder / f"run-{self.number}"
        if name == "reference":
            command = [sys.executable, "-m", "benchmarks.reference", "--text", self.text, "--out", out]
            finished = run_command([*command, "--steps", str(self.steps), "--device", self.options.device])
            return finished, float(json.loads(finished.output.splitlines()[-1])["val/loss"])
        if name == "nanoGPT":
            return self._nanogpt(out)
        fields = {"steps": self.steps, "corpus.path": self.text, "device": self.options.device}
        command = [sys.executable, "-m", "gptzoo", "train", "@shakespeare-char", "--out", out, *_settings(fields)]
        finished = run_command([*command, *(["--bare"] if name == "bare" else [])])
        last = (out / "metrics.jsonl").read_text().splitlines()[-1]
        return finished, float(json.loads(last)["val/loss"])

    def _nanogpt(self, out: Path) -> tuple[Finished, float]:
        folder = self.options.nanogpt
        assert folder is not None
        values = {
            **SHAPE,
            "device": self.options.device,
            "compile": False,
            "eval_iters": 20,
            "log_interval": 1000,
            "max_iters": self.steps,
            "lr_decay_iters": self.steps,
            "out_dir": out,
        }
        flags = [f"--{name}={value}" for name, value in values.items()]
        command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *flags]
        finished = run_command(command, folder=folder)
        return finished, float(re.findall(r"val loss ([\d.]+)", finished.output)[-1])


def _settings(fields: Mapping[str, object]) -> list[str]:
    return [f"--set={name}={value}" for name, value in fields.items()]
