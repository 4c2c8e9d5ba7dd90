"""The runs that test claims: measures, the registration in git, and one command that is resumed."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import gptzoo

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks.claims import catalog, measures, run, verdicts  # noqa: E402
from benchmarks.claims.__main__ import main  # noqa: E402
from benchmarks.claims.catalog import Statement  # noqa: E402

TINY: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 3, "n_heads": 2, "positional": "rope"},
    "corpus": {"type": "stories", "n_stories": 60},
    "tokenizer": "byte",
    "steps": 3,
    "batch_size": 4,
    "device": "cpu",
    "precision": "fp32",
    "sample": {"max_new_tokens": 0},
}


def test_measures_equal_a_direct_computation(tmp_path: Path) -> None:
    import torch
    import torch.nn.functional as F

    gptzoo.train(TINY, tmp_path / "run", quiet=True)
    model = gptzoo.load(tmp_path / "run").model.eval()
    spec = gptzoo.load_run_spec(tmp_path / "run" / "run.json")
    text = "".join(spec.corpus.build().documents("val"))
    assert len(text) > 1000
    batch = next(iter(measures.model_and_text(tmp_path / "run")[1].validation_batches(16 * 16)))
    assert batch["tokens"].shape == (16, 16)
    norms = []
    for block in model.blocks:
        block.register_forward_hook(lambda module, inputs, output: norms.append(output.y.double().pow(2).mean().item()))
    with torch.no_grad():
        model(torch.from_numpy(batch["tokens"]))
    growth = math.log2(math.sqrt(norms[-1] / norms[0]))
    assert measures.residual_growth(tmp_path / "run") == pytest.approx(growth, rel=1e-5)

    losses = {}
    for length in (16, 64):
        _, batching = measures.model_and_text(tmp_path / "run", length // 16)
        nats, n = 0.0, 0
        for rows in batching.validation_batches(10_000):
            assert rows["tokens"].shape[1] <= length
            with torch.no_grad():
                logits, _ = model(torch.from_numpy(rows["tokens"]))
            targets = torch.from_numpy(rows["targets"])
            nats += F.cross_entropy(logits.transpose(1, 2).double(), targets, ignore_index=-100, reduction="sum").item()
            n += int((targets != -100).sum())
        losses[length] = nats / n
    assert measures.loss_rise(tmp_path / "run") == pytest.approx(losses[64] - losses[16], abs=1e-5)


def repository(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, list[Statement]]:
    """Make a git repository with one claim, which is not committed yet."""
    specs = folder / "configs"
    specs.mkdir(parents=True)
    axes = {"model.norm": ["pre_ln", "post_ln"]}
    (specs / "tiny.json").write_text(
        json.dumps({"name": "tiny", "base": TINY, "axes": axes, "seeds": 2, "samples": False})
    )
    statement = {
        "text": "post is not much better",
        "ablation": "tiny",
        "left": ["post_ln", "loss rise at 4x"],
        "right": ["pre_ln", "loss rise at 4x"],
        "expected": "above",
        "margin": -9,
    }
    (folder / "catalog.json").write_text(json.dumps({"norm:post_ln": {"source": "Us", "statements": [statement]}}))
    subprocess.run(["git", "init", "-q", str(folder)], check=True)
    for module in (catalog, run):
        monkeypatch.setattr(module, "SPECS", specs)
    monkeypatch.setattr(run, "ROOT", folder)
    monkeypatch.setattr(run, "FILE", folder / "catalog.json")
    monkeypatch.setattr(run, "RESULTS", folder / "results")
    return folder, catalog.statements_by_ablation(catalog.read_catalog(folder / "catalog.json"))["tiny"]


def commit(folder: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@t"]
    subprocess.run(["git", "-C", str(folder), "add", "-A"], check=True)
    subprocess.run(["git", "-C", str(folder), *identity, "commit", "-qm", "claim"], check=True)


def test_a_claim_that_is_not_committed_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, statements = repository(tmp_path / "clone", monkeypatch)
    with pytest.raises(SystemExit, match="commit the claim before you run it"):
        run.run("tiny", statements, tmp_path / "out")
    commit(folder)
    assert re.fullmatch("[0-9a-f]{12}", run.registered_commit("tiny"))
    (folder / "configs" / "tiny.json").write_text((folder / "configs" / "tiny.json").read_text().replace("16", "32"))
    with pytest.raises(SystemExit, match=r"tiny\.json"):
        run.registered_commit("tiny")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_one_command_runs_a_claim_and_runs_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, statements = repository(tmp_path / "clone", monkeypatch)
    commit(folder)
    written = json.loads(run.run("tiny", statements, tmp_path / "out").read_text())
    rises = written["measures"]["loss rise at 4x"]
    (first,) = (tmp_path / "out" / "trials").glob("post_ln-seed1-*")
    assert rises["post_ln"]["1"] == pytest.approx(measures.loss_rise(first))
    assert {name: sorted(of) for name, of in rises.items()} == {"post_ln": ["1", "2"], "pre_ln": ["1", "2"]}
    assert written["failures"] == []
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").glob("trials/*/metrics.jsonl")}
    assert len(before) == 4
    assert json.loads(run.run("tiny", statements, tmp_path / "out").read_text()) == written
    assert {file: file.stat().st_mtime_ns for file in before} == before
    (judgement,) = verdicts.judge(
        catalog.read_catalog(folder / "catalog.json"), verdicts.read_results(folder / "results")
    ).values()
    assert judgement.verdict == "agrees"


def test_an_unknown_ablation_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["run", "extrapolaton"])
    assert stopped.value.code == 2
    assert "no ablation 'extrapolaton' in the catalog" in capsys.readouterr().err
