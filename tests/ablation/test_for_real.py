"""A complete ablation: trials trained by the runner, read from their folders and analysed."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import pytest
from outcomes import outcome, variant

import gptzoo
from gptzoo.ablation.execution.local_executor import LocalExecutor
from gptzoo.ablation.execution.runner import Runner
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.ablation.records.trial import TrialOutcome
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.spec.run import RunSpec
from gptzoo.training.run.metrics_file import read_metrics

SPEC = Path(__file__).parent / "data" / "seed_noise_run.json"
CHANGES: dict[str, list[str]] = {
    "baseline": [],
    "naive": ["model.attention=naive"],
    "none": ["model.positional=none"],
    "wild": ["optimizer.lr=1e30"],
}
SEEDS = range(1, 6)


@dataclass(frozen=True)
class Named:
    name: str
    spec: RunSpec


@pytest.mark.slow
def test_five_seeds_distinguish_equal_worse_and_failed_variants(tmp_path: Path) -> None:
    trials = [
        Named(f"{name}/seed-{seed}", gptzoo.load_run_spec(SPEC, [*changes, f"seed={seed}"]))
        for name, changes in CHANGES.items()
        for seed in SEEDS
    ]
    Runner(trials, tmp_path, LocalExecutor.Config(n_workers=2).build()).run()
    empty = outcome({name: {} for name in CHANGES}, variants=[variant(name, {}) for name in CHANGES], factorial=False)
    analysis = analyse(
        dataclasses.replace(empty, trials=[read_trial(tmp_path, n, seed) for n in CHANGES for seed in SEEDS])
    )
    verdicts = {comparison.variant: comparison.verdict for comparison in analysis.comparisons}
    assert verdicts == {"naive": "same", "none": "worse", "wild": "no data"}
    wild = next(comparison for comparison in analysis.comparisons if comparison.variant == "wild")
    assert wild.n_failed == 5
    assert "5 of 5 trials failed" in wild.sentence
    assert {band.variant for band in analysis.bands if band.metric == "val/loss"} == set(CHANGES)
    assert analysis.matched["flops"].losses.keys() == {"baseline", "naive", "none"}
    assert {point.variant for point in analysis.fronts["seconds per token"]} == {"baseline", "naive", "none"}


def read_trial(root: Path, name: str, seed: int) -> TrialOutcome:
    folder = TrialFolder(root / "trials" / name / f"seed-{seed}")
    return TrialOutcome(name, seed, folder.state, folder.failure or "", read_metrics(folder.metrics))
