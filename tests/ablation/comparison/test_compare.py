"""`gptzoo compare`: two runs in, one verdict out, with trials whose results are given."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import jsonschema
import pytest
from click.testing import CliRunner, Result

import gptzoo
from gptzoo.ablation.comparison.compare import compare
from gptzoo.ablation.comparison.folder import default_folder
from gptzoo.ablation.comparison.pair import read_pair
from gptzoo.ablation.planning.folder import write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.records.warning import WarningKind
from gptzoo.ablation.report.summary import methods
from gptzoo.ablation.statistics.analyse import analyse
from gptzoo.cli import main
from gptzoo.errors import FolderError, InputError, SpecError
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.ablation_fairness import level_of_look

A: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 24, "n_layers": 1, "n_heads": 3},
    "corpus": {"type": "stories", "n_stories": 40},
    "batch_size": 4,
    "steps": 10,
    "device": "cpu",
}
B: dict[str, Any] = {**A, "optimizer": {"type": "adamw", "lr": 0.01}}
NOISE = {1: 0.00, 2: 0.03, 3: -0.02, 4: 0.01, 5: -0.01, 6: 0.02, 7: 0.04, 8: -0.03}
LEAD = {1: -0.1, 2: -0.12, 3: -0.09, 4: -0.11, 5: -0.1, 6: -0.1, 7: -0.11, 8: -0.12}
VERDICTS: dict[str, tuple[Mapping[int, float], int]] = {
    "better": (LEAD, 10),
    "worse": ({seed: -lead for seed, lead in LEAD.items()}, 11),
    "same": (dict.fromkeys(LEAD, 1e-5), 12),
    "cannot tell": ({seed: 3 * noise for seed, noise in NOISE.items()}, 13),
}


@pytest.fixture
def specs(tmp_path: Path) -> tuple[Path, Path]:
    """The files of two runs that differ in the learning rate."""
    for name, spec in (("a", A), ("b", B)):
        (tmp_path / f"{name}.json").write_text(json.dumps(spec))
    return tmp_path / "a.json", tmp_path / "b.json"


def finish(
    specs: Sequence[Path | Mapping[str, Any]],
    folder: Path,
    differences: Mapping[int, float | None],
    n_seeds: int = 5,
    metric: str = "val/loss",
    lengths: Mapping[float, float] | None = None,
) -> None:
    """Write the trials of a comparison, as if they had ended. None is a trial of B that failed.

    lengths: how much the loss of A differs at other lengths of its runs.
    """
    pair = read_pair(specs[0], specs[1])
    settings = {"seeds": n_seeds, "looks": [n_seeds], "metric": metric, "baseline_lengths": list(lengths or {})}
    plan = make_plan(gptzoo.load_ablation_spec(pair.ablation(settings)), folder)
    if not (folder / "ablation.json").exists():
        write_plan(folder, plan)
    shifts = {length.name: (lengths or {})[length.multiple] for length in plan.baseline_lengths}
    for trial in plan.final_trials:
        run = folder / "trials" / trial.name
        run.mkdir(parents=True, exist_ok=True)
        difference = {plan.baseline: 0.0, **shifts}.get(trial.variant, differences.get(trial.seed))
        if difference is None:
            (run / "attempts.json").write_text(json.dumps({"attempts": [], "given_up": "diverged: the loss is nan"}))
            continue
        value = 2 + NOISE[trial.seed] + difference
        (run / "metrics.jsonl").write_text(json.dumps({"step": 10, metric: value}) + "\n")
        (run / "status.json").write_text('{"status": "done"}')
        environment = {"device": "cpu: test", "threads": 2, "data": "x"}
        (run / "environment.json").write_text(json.dumps(environment))


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


# ---------------------------------------------------------------------- verdicts and exit codes


@pytest.mark.parametrize("verdict", VERDICTS)
def test_each_verdict_has_an_exit_code_on_demand(specs: tuple[Path, Path], tmp_path: Path, verdict: str) -> None:
    differences, code = VERDICTS[verdict]
    finish(specs, tmp_path / "out", differences)
    printed = command(*specs, "--out", tmp_path / "out", "--json", "--exit-code")
    assert printed.exit_code == code, printed.output
    assert json.loads(printed.stdout)["verdict"] == verdict


def test_the_json_has_its_documented_form_and_the_numbers_of_the_trials(
    specs: tuple[Path, Path], tmp_path: Path
) -> None:
    finish(specs, tmp_path / "out", LEAD)
    done = command(*specs, "--out", tmp_path / "out", "--json")
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    schema = json.loads(CliRunner().invoke(main, ["schema", "comparison"]).stdout)
    jsonschema.validate(printed, schema)
    assert (printed["format_version"], printed["metric"], printed["unit"]) == (1, "val/loss", "nats per token")
    assert printed["difference"]["value"] == pytest.approx(sum(LEAD[s] for s in range(1, 6)) / 5)
    assert printed["difference"]["low"] < printed["difference"]["value"] < printed["difference"]["high"] < 0
    assert (printed["n"], printed["paired"], printed["changes"]) == (5, True, ["optimizer.lr: 0.001 -> 0.01"])
    assert printed["a"]["values"]["2"] == pytest.approx(2.03)
    assert (printed["a"]["name"], printed["b"]["name"], printed["b"]["tokens"]) == ("a", "b", 640)
    assert printed["trained"].startswith("Trained: 2 variants with ")
    assert "text stories" in printed["trained"]
    assert "10 steps, 640 tokens in each run; device cpu: test with 2 threads." in printed["trained"]
    assert "b is better than a by 0.104 nats per token of val/loss (" in printed["sentence"]
    assert printed["warnings"] == []
    assert compare(*specs, out=tmp_path / "out").model_dump(mode="json") == printed


def test_lengths_of_a_give_what_it_needs_to_reach_the_loss_of_b(specs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(specs, out, LEAD, lengths={0.5: 0.3, 2.0: -0.2})
    arguments = (*specs, "--out", out, "--json")
    printed = json.loads(command(*arguments, "--baseline-lengths", "0.5,2").stdout)
    jsonschema.validate(printed, json.loads(CliRunner().invoke(main, ["schema", "comparison"]).stdout))
    cost = printed["cost_to_reach"]
    assert 1 < cost["multiple"]["low"] < cost["multiple"]["value"] < cost["multiple"]["high"] < 2
    assert cost["needed"]["steps"]["value"] == pytest.approx(10 * cost["multiple"]["value"])
    assert (cost["spent"]["steps"], cost["spent"]["tokens"], cost["n"]) == (10, 640, 5)
    assert json.loads(command(*arguments).stdout) == printed  # called again, it keeps the lengths of the folder
    text = command(*specs, "--out", out).stdout.splitlines()
    assert text[text.index(printed["sentence"]) + 1] == cost["sentence"]
    assert cost["sentence"].startswith("The baseline a needs ")


@pytest.mark.parametrize(
    ("lengths", "reason"), [("half", "expected multiples such as 0.5,2"), ("2", "expected at least two lengths")]
)
def test_lengths_that_give_no_curve_are_refused(
    specs: tuple[Path, Path], tmp_path: Path, lengths: str, reason: str
) -> None:
    refused = command(*specs, "--out", tmp_path / "out", "--baseline-lengths", lengths)
    assert refused.exit_code == 2
    assert reason in (refused.output + str(refused.exception))
    assert not (tmp_path / "out").exists()


def test_a_run_whose_trials_all_fail_gives_no_verdict_and_one_that_fails_once_a_warning(
    specs: tuple[Path, Path], tmp_path: Path
) -> None:
    finish(specs, tmp_path / "all", dict.fromkeys(LEAD))
    printed = command(*specs, "--out", tmp_path / "all", "--json", "--exit-code")
    result = json.loads(printed.stdout)
    assert (printed.exit_code, result["verdict"], result["difference"]) == (1, "no data", None)
    assert result["b"]["failed"][0] == {"seed": 1, "reason": "diverged: the loss is nan"}
    finish(specs, tmp_path / "one", {**LEAD, 2: None})
    result = json.loads(command(*specs, "--out", tmp_path / "one", "--json").stdout)
    assert (result["verdict"], result["n"]) == ("better", 4)
    assert [(w["kind"], w["variants"]) for w in result["warnings"]] == [("failed seeds", ["b"])]


def test_the_text_says_what_was_trained_and_warns_before_the_verdict(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.json" for name in ("base", "wide")]
    for file, spec in zip(files, (A, {**A, "model": {**A["model"], "d_model": 48}}), strict=True):
        file.write_text(json.dumps(spec))
    finish(files, tmp_path / "out", LEAD)
    done = command(*files, "--out", tmp_path / "out")
    lines = done.stdout.splitlines()
    assert done.exit_code == 0, done.output
    assert lines[0].startswith("Trained: ")
    assert lines[1].startswith("Warning: The variants differ in training compute: wide has")
    assert lines[2].startswith("Warning: The variants differ in size: wide has")
    assert lines[3] == "verdict: better"
    assert lines[4].startswith("wide is better than base by 0.104 nats per token of val/loss (")


# ---------------------------------------------------------------------- called again


def test_called_again_it_adds_no_seeds_and_prints_the_same(specs: tuple[Path, Path], tmp_path: Path) -> None:
    finish(specs, tmp_path / "out", LEAD, n_seeds=3)
    first = command(*specs, "--out", tmp_path / "out", "--json", "--seeds", 3)
    again = command(*specs, "--out", tmp_path / "out", "--json")
    assert first.stdout == again.stdout
    assert [look["seeds"] for look in json.loads(again.stdout)["looks"]] == [3]


def test_more_seeds_are_a_second_look_at_a_stricter_level(specs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(specs, out, LEAD)
    first = compare(*specs, out=out)
    finish(specs, out, LEAD, n_seeds=8)
    second = compare(*specs, out=out, seeds=8)
    assert [(look.seeds, look.level, look.verdict) for look in second.looks] == [
        (5, level_of_look(0.05, 1), "better"),
        (8, level_of_look(0.05, 2), "better"),
    ]
    assert (first.n, second.n) == (5, 8)
    assert compare(*specs, out=out) == second
    spec = gptzoo.load_ablation_spec(json.loads((out / "ablation.json").read_text()))
    outcome = gptzoo.read_outcome(out)
    assert (spec.looks, outcome.level) == ((5, 8), spec.level)
    described = methods(outcome, analyse(outcome))
    assert "This is look 2 at the results, after 5, 8 seeds. It spends 0.011 of α = 0.05" in described


@pytest.mark.slow
def test_a_narrower_interval_at_a_second_look_may_still_not_tell(specs: tuple[Path, Path], tmp_path: Path) -> None:
    """A difference that is significant at 5%, but not at the level of a second look."""
    out, weak = tmp_path / "out", {1: -0.05, 2: 0.02, 3: -0.06, 4: -0.04, 5: 0.01, 6: -0.05, 7: -0.03, 8: -0.06}
    finish(specs, out, weak)
    assert compare(*specs, out=out).verdict == "cannot tell"
    finish(specs, out, weak, n_seeds=8)
    second = compare(*specs, out=out, seeds=8)
    assert second.p is not None
    assert level_of_look(0.05, 2) < second.p < 0.05
    assert second.verdict == "cannot tell"


def test_fewer_seeds_than_were_seen_and_changed_rules_are_refused(specs: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    finish(specs, out, LEAD)
    with pytest.raises(InputError, match=r"has 5 seeds of each run, so 3 seeds would leave out results"):
        compare(*specs, out=out, seeds=3)
    with pytest.raises(InputError, match=r"its margin is 0.001, which was decided before its results were seen"):
        compare(*specs, out=out, margin=0.5)
    assert command(*specs, "--out", out, "--metric", "val/bits_per_byte").exit_code == 2


# ---------------------------------------------------------------------- wrong input


def test_the_same_run_twice_is_refused_whatever_its_name_and_seed(specs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "copy.json"
    other.write_text(json.dumps({**A, "seed": 9, "name": "copy"}))
    for second in (specs[0], other):
        refused = command(specs[0], second, "--out", tmp_path / "out")
        assert refused.exit_code == 2
        assert "are the same run, so there is nothing to compare" in refused.output
    refused = command(specs[0], "--out", tmp_path / "out")
    assert "change a copy of A with --set FIELD=VALUE" in refused.output
    assert not (tmp_path / "out").exists()


def test_the_folder_of_a_run_and_its_spec_are_the_same_run(tmp_path: Path) -> None:
    spec = {**A, "model": {**A["model"], "vocab_size": None}}
    run = gptzoo.load_run_spec(spec)
    model = run.model.model_copy(update={"vocab_size": gptzoo.load_run_spec(A).model.vocab_size})
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run.json").write_text(json.dumps(run.model_copy(update={"model": model}).resolved()))
    with pytest.raises(InputError, match="are the same run"):
        read_pair(spec, tmp_path / "runs")
    pair = read_pair(tmp_path / "runs", {**spec, "name": "run"}, ["optimizer.lr=0.5"])
    assert pair.names == ("runs", "run")


def test_different_held_out_texts_are_refused_unless_one_is_named(tmp_path: Path) -> None:
    texts = {}
    for name in ("one", "two"):
        (tmp_path / f"{name}.txt").write_text(f"{name} is a text. " * 400)
        texts[name] = {**A, "corpus": {"type": "text", "path": str(tmp_path / f"{name}.txt")}}
    with pytest.raises(SpecError, match=r"the held-out text of b is another one .*--held-out of gptzoo compare"):
        compare(texts["one"], texts["two"], out=tmp_path / "out")
    pair = read_pair(texts["one"], texts["two"])
    spec = gptzoo.load_ablation_spec(pair.ablation({"held_out": texts["one"]["corpus"], "seeds": 2, "looks": [2]}))
    assert len(make_plan(spec, tmp_path / "planned").variants) == 2


def test_different_tokenizers_are_compared_in_bits_per_byte_with_a_warning(tmp_path: Path) -> None:
    char = {**A, "tokenizer": "char"}
    finish((A, char), tmp_path / "out", LEAD, metric="val/bits_per_byte")
    result = compare(A, char, out=tmp_path / "out")
    assert (result.metric, result.unit) == ("val/bits_per_byte", "bits per byte")
    assert "tokenizer" in [warning.kind for warning in result.warnings]
    with pytest.raises(SpecError, match="cannot be compared across different tokenizers"):
        compare(A, char, metric="val/loss", out=tmp_path / "other")


def test_a_folder_with_other_runs_is_refused(specs: tuple[Path, Path], tmp_path: Path) -> None:
    finish(specs, tmp_path / "out", LEAD)
    other = {**B, "optimizer": {"type": "adamw", "lr": 0.02}}
    with pytest.raises(FolderError, match=r"compares other runs: \$\.optimizer\.lr of B was 0.01, is 0.02\. Choose"):
        compare(specs[0], other, out=tmp_path / "out")
    with pytest.raises(FolderError, match=r"compares other runs: \$\.optimizer\.lr of A was 0.001, is 0.01"):
        compare(specs[1], specs[0], out=tmp_path / "out")
    with pytest.raises(FolderError, match=r"compares other runs: \$\.budget was null, is "):
        compare(*specs, budget={"tokens": 640}, out=tmp_path / "out")


def test_the_folder_of_another_ablation_is_refused(specs: tuple[Path, Path], tmp_path: Path) -> None:
    axes = {"optimizer.lr": [0.001, 0.01]}
    spec = gptzoo.load_ablation_spec({"base": A, "axes": axes, "seeds": 1, "looks": [1]})
    write_plan(tmp_path / "out", make_plan(spec, tmp_path / "out"))
    with pytest.raises(FolderError, match=r"has an ablation that `gptzoo compare` did not write"):
        compare(*specs, out=tmp_path / "out")


def asked(a: Any, b: Any, **settings: Any) -> AblationSpec:
    return gptzoo.load_ablation_spec(read_pair(a, b).ablation(settings))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which `comparisons` is created."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_default_folder_depends_on_both_runs_and_on_what_they_are_trained_for(elsewhere: Path) -> None:
    other = {**B, "optimizer": {"type": "adamw", "lr": 0.02}}
    folders = [default_folder(asked(A, b, budget=budget)) for b in (B, other) for budget in (None, {"flops": 1})]
    assert len({*folders}) == 4
    assert folders[0] == default_folder(asked({**A, "seed": 3}, B))
    assert folders[0] == default_folder(asked(A, B, seeds=8, margin=0.1, metric="val/bits_per_byte"))


def test_the_same_runs_in_other_words_are_found_and_keep_results(specs: tuple[Path, Path], tmp_path: Path) -> None:
    """Defaults written out, other names and another seed: the results and files stay those of the first call."""
    out = tmp_path / "out"
    finish(specs, out, LEAD)
    first = compare(*specs, out=out)
    written = {file.name: file.read_bytes() for file in out.glob("*.json")}
    in_full = [gptzoo.load_run_spec(spec).resolved() | {"name": "other", "seed": 7} for spec in (A, B)]
    hashes = {default_folder(asked(*runs)).name.rpartition("-")[2] for runs in (in_full, (A, B))}
    assert len(hashes) == 1
    assert compare(*in_full, out=out) == first
    assert {file.name: file.read_bytes() for file in out.glob("*.json")} == written


def test_a_folder_of_an_older_version_is_found_by_its_runs_and_keeps_its_name(
    specs: tuple[Path, Path], elsewhere: Path
) -> None:
    """Older versions gave the folder another hash, and the comparison another name."""
    folder = Path("comparisons/a-b-00000000")
    finish(specs, folder, LEAD)
    stored = json.loads((folder / "ablation.json").read_text())
    assert stored["name"] == "b against a"
    (folder / "ablation.json").write_text(json.dumps({**stored, "name": "a against b"}))
    damaged = Path("comparisons/a-b-0000000")
    damaged.mkdir()
    (damaged / "ablation.json").write_text("{")
    result = compare(*specs)
    assert (result.folder, result.n, result.verdict) == (str(folder), 5, "better")
    assert json.loads((folder / "ablation.json").read_text())["name"] == "a against b"
    assert {path.name for path in Path("comparisons").iterdir()} == {folder.name, damaged.name}


@pytest.mark.parametrize("budget", ["tokens", "tokens=many", "hours=3"])
def test_a_wrong_budget_is_refused(specs: tuple[Path, Path], budget: str) -> None:
    refused = command(*specs, "--budget", budget)
    assert refused.exit_code == 2
    assert "expected tokens=N, flops=N or seconds=N" in refused.output


def test_a_budget_sets_the_length_of_both_runs(tmp_path: Path) -> None:
    pair = read_pair(A, {**B, "steps": 40})
    spec = gptzoo.load_ablation_spec(pair.ablation({"budget": {"tokens": 1280}, "seeds": 1, "looks": [1]}))
    assert [variant.n_steps for variant in make_plan(spec, tmp_path).variants] == [20, 20]


@pytest.mark.slow
def test_runs_of_different_lengths_are_compared_with_a_warning(tmp_path: Path) -> None:
    longer = {**B, "steps": 20}
    finish((A, longer), tmp_path / "out", LEAD)
    assert [w.kind for w in compare(A, longer, out=tmp_path / "out").warnings] == ["tokens", "flops"]


# ---------------------------------------------------------------------- documentation


def test_the_documentation_has_every_kind_of_warning_once() -> None:
    page = (Path(__file__).parents[3] / "docs" / "compare.md").read_text()
    rows = page.partition("| kind | reason |\n|---|---|\n")[2].splitlines()
    table = itertools.takewhile(lambda line: line.startswith("|"), rows)
    kinds = [kind for row in table for kind in re.findall(r"`([^`]+)`", row.split("|")[1])]
    assert sorted(kinds) == sorted(get_args(WarningKind))
