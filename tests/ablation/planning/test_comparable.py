"""A difference of losses is formed only of losses on the same held-out text."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import gptzoo
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.planning.plan_types import Plan
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.errors import SpecError

BASE: dict[str, Any] = {
    "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
    "corpus": {"type": "stories", "n_stories": 60},
    "batch_size": 4,
    "steps": 4,
    "eval": {"every": 2},
    "device": "cpu",
    "sample": {"max_new_tokens": 0},
}
COMMON = {"type": "stories", "n_stories": 40, "seed": 9}
BPE = {"type": "bpe", "vocab_size": 300}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    rng = random.Random(1)
    lines = [" ".join(rng.choice(("red", "blue", "cat", "dog", "runs")) for _ in range(12)) for _ in range(200)]
    Path("easy.txt").write_text("the cat sat on the mat. " * 200)
    Path("lines.txt").write_text("\n".join(lines))
    Path("lines.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))
    return tmp_path


def ablation(axes: dict[str, Any], base: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return {"name": "texts", "base": {**BASE, **(base or {})}, "axes": axes, "seeds": 2, "samples": False, **fields}


def plan_of(axes: dict[str, Any], base: dict[str, Any] | None = None, **fields: Any) -> Plan:
    return make_plan(gptzoo.load_ablation_spec(ablation(axes, base, **fields)), Path("out"))


def text(path: str, **options: Any) -> dict[str, Any]:
    return {"type": "text", "path": path, **options}


@pytest.mark.parametrize(
    ("axes", "base"),
    [
        ({"corpus": [BASE["corpus"], text("easy.txt")]}, {}),
        ({"corpus": [text("lines.txt"), {"type": "jsonl", "path": "lines.jsonl"}]}, {}),
        ({"corpus.seed": [1, 2]}, {}),
        ({"corpus.n_stories": [60, 90]}, {}),
        ({"corpus.val_fraction": [0.1, 0.2]}, {"corpus": text("lines.txt")}),
        ({"corpus.val_path": ["lines.txt", "easy.txt"]}, {"corpus": text("lines.txt")}),
        ({"data": {"choices": {"a": {"corpus.seed": 1}, "b": {"corpus.seed": 2, "optimizer.lr": 0.01}}}}, {}),
    ],
    ids=str,
)
@pytest.mark.parametrize(("metric", "vocab_size"), [("val/loss", None), ("val/bits_per_byte", 300)])
def test_an_axis_that_changes_the_held_out_text_is_refused(
    axes: dict[str, Any], base: dict[str, Any], metric: str, vocab_size: int | None
) -> None:
    base = {**base, "model": {**BASE["model"], "vocab_size": vocab_size}}
    with pytest.raises(
        SpecError, match=r'\$\.axes: the held-out text of .* is another one.*Name one corpus .*"held_out"'
    ):
        plan_of(axes, base, metric=metric)
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("axes", "base"),
    [
        ({"corpus.path": ["lines.txt", "easy.txt"]}, {"corpus": text("lines.txt", val_path="lines.txt")}),
        ({"corpus.val_fraction": [0.1, 0.2]}, {"corpus": text("lines.txt", val_path="easy.txt")}),
        (
            {"corpus.parts": [[{"corpus": BASE["corpus"]}], [{"corpus": BASE["corpus"], "weight": 0.5}]]},
            {"corpus": {"type": "mixture", "parts": [{"corpus": BASE["corpus"]}]}},
        ),
    ],
    ids=str,
)
def test_an_axis_that_changes_only_the_training_text_is_compared(axes: dict[str, Any], base: dict[str, Any]) -> None:
    assert len(plan_of(axes, base).variants) == 2
    if base["corpus"].get("val_path") == "easy.txt":  # the fraction is unused with a val_path, so all text is the same
        return
    with pytest.raises(SpecError, match=r"\$\.metric: 'train/loss' is measured on the training text, which differs"):
        plan_of(axes, base, metric="train/loss")


def test_a_tokenizer_that_each_variant_trains_on_its_own_text_needs_bits_per_byte() -> None:
    axes = {"corpus.path": ["lines.txt", "easy.txt"]}
    corpus = text("lines.txt", val_path="lines.txt")
    with pytest.raises(SpecError, match=r"\$\.metric: 'val/loss' is a loss per token, and the tokenizers .* differ"):
        plan_of(axes, {"corpus": corpus, "tokenizer": BPE})
    assert len(plan_of(axes, {"corpus": corpus, "tokenizer": BPE}, metric="val/bits_per_byte").variants) == 2


@pytest.mark.parametrize("metric", ["val/loss", "val/perplexity", "val/ema_loss", "train/loss"])
def test_metrics_per_token_of_different_tokenizers_are_refused(metric: str) -> None:
    with pytest.raises(SpecError, match=f"'{metric}' is a loss per token.*use val/bits_per_byte"):
        plan_of({"tokenizer": ["byte", "char"]}, {"ema_decay": 0.9}, metric=metric)


@pytest.mark.slow
def test_the_held_out_text_that_the_ablation_names_is_that_of_all_variants(files: Path) -> None:
    """Each variant is trained on its own text, and the figures are those of the common text, by `gptzoo eval` too."""
    axes = {"corpus": [BASE["corpus"], text("easy.txt")]}
    outcome = gptzoo.ablate(ablation(axes, held_out=COMMON), "out")
    assert [trial.state for trial in outcome.trials] == ["done"] * 4
    common = gptzoo.load_run_spec({**BASE, "corpus": COMMON})
    texts = set()
    for folder in sorted(Path("out/trials").iterdir()):
        result = gptzoo.evaluate(folder, common.corpus)
        texts.add(result.text)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["val/loss"] == pytest.approx(result.likelihood.loss, rel=1e-6)
        record = json.loads((folder / "environment.json").read_text())["held_out"]
        assert record["text"] == result.text
        assert record["bytes"] == result.likelihood.n_bytes
    assert len(texts) == 1
    comparison = analyse(outcome).comparisons[0]
    assert comparison.difference is not None
    assert comparison.difference.n == 2

    with pytest.raises(gptzoo.FolderError, match=r"contains a different ablation: .*held_out"):
        gptzoo.ablate(ablation(axes, held_out="stories"), "out")


@pytest.mark.slow
def test_trials_on_a_text_that_changed_during_the_ablation_are_not_compared(files: Path) -> None:
    """The spec stays the same while its file changes: only a digest of the text shows it."""
    corpus = text("lines.txt", val_path="held.txt")
    Path("held.txt").write_text("red cat runs. " * 30)
    axes = {"optimizer.lr": [0.01, 0.02]}
    first = gptzoo.ablate(ablation(axes, {"corpus": corpus}, seeds=[1]), "out")
    assert len(first.endpoints("lr=0.02")) == 1
    Path("held.txt").write_text("blue dog runs. " * 30)
    outcome = gptzoo.ablate(ablation(axes, {"corpus": corpus}, seeds=[1, 2]), "out")
    states = {(trial.variant, trial.seed): (trial.state, trial.reason) for trial in outcome.trials}
    for variant in ("lr=0.01", "lr=0.02"):
        assert states[variant, 1] == ("done", "")
        assert states[variant, 2] == ("failed", "its held-out text is another one than the baseline's")
        assert list(outcome.endpoints(variant)) == [1]
    assert any("trained on different text" in warning.text for warning in analyse(outcome).warnings)


@pytest.mark.slow
def test_selection_does_not_rank_trials_of_another_text(files: Path) -> None:
    corpus = text("lines.txt", val_path="held.txt")
    Path("held.txt").write_text("red cat runs. " * 30)
    spec = ablation({"optimizer.lr": [0.01, 0.02, 0.03]}, {"corpus": corpus}, seeds=[1], halving={"rungs": [0.5]})
    gptzoo.ablate(spec, "out")
    plan = make_plan(gptzoo.load_ablation_spec(spec), Path("out"))
    assert plan.selection is not None
    assert {entry.status for entry in plan.selection.rungs[0].entries} <= {"on", "stopped"}
    trial = next(folder for folder in Path("out/trials").iterdir() if folder.name.startswith("lr=0.03-seed1000-"))
    environment = json.loads((trial / "environment.json").read_text())
    environment["held_out"]["text"] = "0" * 64
    (trial / "environment.json").write_text(json.dumps(environment))
    plan = make_plan(gptzoo.load_ablation_spec(spec), Path("out"))
    assert plan.selection is not None
    entry = next(entry for entry in plan.selection.rungs[0].entries if entry.variant == "lr=0.03")
    assert entry.status == "failed"
    assert "its held-out text is another one than the baseline's" in entry.reason


@pytest.mark.slow
def test_each_metric_that_a_run_records_can_be_compared() -> None:
    base = {"ema_decay": 0.9, "watch": {"every": 1}}
    gptzoo.train(gptzoo.load_run_spec({**BASE, **base}), "run", quiet=True)
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    metrics = {name for row in rows for name in row} - {"step"}
    assert {"train/loss", "val/loss", "val/ema_loss", "memory_gib"} <= metrics
    parts = {
        name.partition("/")[0]: name for name in metrics if name.startswith(("update_ratio/", "attention_entropy/"))
    }
    for metric in {name for name in metrics if name.partition("/")[0] not in parts} | {*parts.values()}:
        plan_of({"model.norm": ["pre_ln", "post_ln"]}, base, metric=metric)
