"""A synthetic ablation outcome without training: closed-form loss curves, seeded noise and failed trials."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from outcomes import outcome

from gptzoo.ablation.records.outcome import Exclusion, Outcome, Variant
from gptzoo.ablation.records.trial import TrialOutcome

STEPS, EVERY, TOKENS = 2000, 50, 4096
AXES = {"model.attention": ["sdpa", "linear"], "model.positional": ["rope", "alibi", "none"]}
ENDS = {
    "sdpa-rope": 2.10,
    "sdpa-alibi": 2.09,
    "sdpa-none": 2.21,
    "linear-rope": 2.16,
    "linear-alibi": 2.101,
    "linear-none": 2.25,
}
HOSTILE = '</script><script>document.title = "taken over"</script><img src=x onerror=alert(1)> & "quotes"'


def six_variants(*, n_seeds: int = 5, done: float = 1.0) -> Outcome:
    """Return a factorial design of two axes with failed trials: one of linear-rope, all of linear-none.

    `done` is the share of seeds whose trials have ended.
    """
    trials = []
    for name in ENDS:
        for seed in range(1, n_seeds + 1):
            failed = name == "linear-none" or (name, seed) == ("linear-rope", 3)
            open_ = seed > done * n_seeds
            rows = list(_rows(name, seed, until=STEPS // 4 if failed else STEPS // 2 if open_ else STEPS))
            state = "failed" if failed else "running" if open_ else "done"
            reason = f"diverged: loss became nan at step {STEPS // 4}" if failed else ""
            text = f"Once upon a time, seed {seed} of {name} told a story. " * 4
            sample = HOSTILE if seed == 2 else text
            trials.append(TrialOutcome(name, seed, state, reason, rows, "" if failed or open_ else sample))
    return outcome(
        {name: {} for name in ENDS},
        name="attention-and-positions",
        axes=AXES,
        variants=[_variant(name) for name in ENDS],
        trials=trials,
        exclusions=[Exclusion({"model.attention": "linear", "model.positional": "t5"}, "'t5' adds a score bias")],
        spec={"name": "attention-and-positions", "axes": AXES, "seeds": list(range(1, n_seeds + 1))},
        environment={"torch": "2.13.0", "device": "cpu", "threads": 1, "git_commit": "0" * 40},
    )


def _variant(name: str) -> Variant:
    attention, positional = name.split("-")
    differences = [
        f"$.model.{part}: {before} → {after}"
        for part, before, after in (("attention", "sdpa", attention), ("positional", "rope", positional))
        if before != after
    ]
    parameters = 912_384 + (8_192 if attention == "linear" else 0) - (64 if positional == "none" else 0)
    return Variant(
        name,
        dict(zip(AXES, (attention, positional), strict=True)),
        n_parameters=parameters,
        flops_per_token=6.1 * parameters,
        cache_bytes=16_384 if attention == "linear" else 262_144,
        memory_bytes=48_000_000 + 10 * parameters,
        differences=differences,
        residue="" if attention == "sdpa" else "8,192 parameters more than the baseline: gates have none to match",
        spec={"model": {"attention": attention, "positional": positional}, "steps": STEPS},
        exports_as="llama" if name == "sdpa-rope" else "not: attention <linear> (closest: llama)",
    )


def _rows(name: str, seed: int, until: int) -> Iterator[dict[str, Any]]:
    """Yield metrics with a power-law loss that ends at ENDS, plus noise per seed and per trial."""
    seed_noise, trial_noise = random.Random(seed).gauss(0, 0.02), random.Random(f"{name} {seed}").gauss(0, 0.008)
    noise = random.Random(f"{name} {seed} steps")
    for step in range(0, until + 1, EVERY):
        loss = (
            ENDS[name]
            + seed_noise
            + trial_noise
            + 3.4 * ((step + 20) / 20) ** -0.75
            - 3.4 * ((STEPS + 20) / 20) ** -0.75
        )
        row = {
            "step": step,
            "train/loss": loss - 0.02 + noise.gauss(0, 0.015),
            "val/loss": loss,
            "tokens": step * TOKENS,
        }
        if step:
            row["tokens_per_second"] = (45_000 if "linear" in name else 60_000) + noise.gauss(0, 900)
        yield row


def many_variants(n: int) -> Outcome:
    """Return an axis with many choices, two seeds each and an evaluation halfway."""
    made = outcome({f"choice-{i}": {1: 2.0 + 0.01 * i, 2: 2.01 + 0.013 * i} for i in range(n)})
    trials = [replace(t, rows=[*t.rows[:1], {"step": 5, "val/loss": 3.0}, *t.rows[1:]]) for t in made.trials]
    return replace(made, trials=trials)


def write_folder(outcome: Outcome, folder: Path) -> None:
    """Write the files that `gptzoo ablate` would write for an outcome, or add to those in the folder."""
    design = {name: getattr(outcome, name) for name in ("baseline", "axes", "factorial", "paired")}
    design["variants"] = [asdict(variant) for variant in outcome.variants]
    design["exclusions"] = [asdict(exclusion) for exclusion in outcome.exclusions]
    design["trials"] = [
        {"variant": t.variant, "seed": t.seed, "folder": f"{t.variant}-seed{t.seed}"} for t in outcome.trials
    ]
    rules = {name: getattr(outcome, name) for name in ("name", "metric", "margin", "power")}
    rules["alpha"] = outcome.level
    for trial in outcome.trials:
        path = folder / "trials" / f"{trial.variant}-seed{trial.seed}"
        path.mkdir(parents=True, exist_ok=True)
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in trial.rows))
        if trial.state == "done":
            (path / "status.json").write_text(json.dumps({"status": "done"}))
            (path / "sample.txt").write_text(trial.sample)
        if trial.state == "failed":
            (path / "attempts.json").write_text(json.dumps({"attempts": [], "given_up": trial.reason}))
    (folder / "variants.json").write_text(json.dumps(design))
    (folder / "ablation.json").write_text(json.dumps({**outcome.spec, **rules, "samples": True}))
