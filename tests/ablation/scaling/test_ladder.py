"""`gptzoo ladder`: the rule, the plan, trials whose results are given, and small ladders that are trained."""

from __future__ import annotations

import base64
import copy
import csv
import hashlib
import html
import io
import json
import math
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from rich.console import Console
from support import admit

import gptzoo
from gptzoo.ablation.design.costs import CostCache
from gptzoo.ablation.planning.folder import write_plan
from gptzoo.ablation.planning.plan import make_plan
from gptzoo.ablation.report.serve import ReportServer
from gptzoo.ablation.report.write import write_ladder_report
from gptzoo.ablation.scaling.folder import check_same_ladder, write_ladder
from gptzoo.ablation.scaling.ladder import ladder
from gptzoo.ablation.scaling.ladder_spec import load_ladder_spec
from gptzoo.ablation.scaling.plan_ladder import plan_ladder
from gptzoo.ablation.scaling.power_law import PowerLawFit, ScalingPoint
from gptzoo.ablation.scaling.read_result import read_ladder
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.ablation.scaling.sentences import format_factor
from gptzoo.ablation.scaling.warnings import planned_warnings
from gptzoo.ablation.terminal.print_ladder import print_ladder, print_ladder_plan
from gptzoo.checkpoint.plugin_files import PluginFile
from gptzoo.checkpoint.records import with_checksum
from gptzoo.cli import main
from gptzoo.errors import FolderError, InputError, SpecError
from gptzoo.spec.schema import output_schema
from gptzoo.utils.atomic import write_json
from gptzoo.utils.json_text import to_json

BASE: dict[str, Any] = {
    "model": {"vocab_size": 257, "context_length": 16, "d_model": 8, "n_layers": 1, "n_heads": 1},
    "corpus": {"type": "stories", "n_stories": 40},
    "batch_size": 4,
    "steps": 10,
    "optimizer": {"type": "adamw", "lr": 0.01},
    "device": "cpu",
}
LADDER: dict[str, Any] = {
    "name": "tiny",
    "base": BASE,
    "variants": {"post": {"model.norm": "post_ln"}},
    "sizes": [1, 2, 3, 4],
    "rule": {"width_per_layer": 8, "head_width": 8, "batch_exponent": 0.5},
}
EXCESS = {"baseline": 1.0, "post": 0.9}
EXPONENT = 0.15
COSTS = CostCache()  # of all tests: the costs of a model are computed in another process


def changed(**fields: Any) -> dict[str, Any]:
    return {**copy.deepcopy(LADDER), **fields}


def write_file(tmp_path: Path, spec: dict[str, Any]) -> Path:
    file = tmp_path / "ladder.json"
    file.write_text(json.dumps(spec))
    return file


def law(variant: str, flops: float) -> float:
    return 1.5 + EXCESS[variant] * (flops / 1e9) ** -EXPONENT


def finish(spec: dict[str, Any], folder: Path) -> list[ScalingPoint]:
    """Write the trials of a ladder, as if they had ended with losses of a power law, and return its points."""
    ladder_plan = plan_ladder(load_ladder_spec(spec), COSTS)
    plan = make_plan(ladder_plan.ablation, folder, costs=COSTS)
    write_plan(folder, plan)
    write_ladder(folder, ladder_plan)
    rng = np.random.default_rng(0)
    losses: dict[str, list[float]] = {}
    flops = {variant.name: variant.flops for variant in plan.variants}
    for trial in plan.trials:
        run = folder / "trials" / trial.name
        run.mkdir(parents=True, exist_ok=True)
        value = law(trial.variant.partition("-")[2], flops[trial.variant] or 0) + 0.004 * rng.standard_normal()
        losses.setdefault(trial.variant, []).append(value)
        (run / "metrics.jsonl").write_text(json.dumps({"step": 10, "val/loss": value}) + "\n")
        (run / "status.json").write_text('{"status": "done"}')
    return [
        ScalingPoint(v.name.partition("-")[2], 0, v.n_tokens, v.flops or 0, tuple(losses[v.name]))
        for v in plan.variants
    ]


def command(*arguments: Any) -> Result:
    return CliRunner().invoke(main, ["ladder", *map(str, arguments)])


def shown(result: LadderResult) -> str:
    console = Console(file=io.StringIO(), width=200)
    print_ladder(result, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


# ---------------------------------------------------------------------- the rule and the plan


def test_the_rule_maps_a_size_to_all_that_depends_on_it() -> None:
    runs = plan_ladder(load_ladder_spec(LADDER)).runs
    assert [run.variant for run in runs] == ["baseline", "post"] * 4
    baseline = [run for run in runs if run.variant == "baseline"]
    assert [(r.n_layers, r.d_model, r.n_heads) for r in baseline] == [(1, 8, 1), (2, 16, 2), (3, 24, 3), (4, 32, 4)]
    growth = [1, 8, 27, 64]  # layers x width²
    assert [run.batch_size for run in baseline] == [round(4 * g**0.5) for g in growth]
    assert [run.learning_rate for run in baseline] == pytest.approx([0.01 * g**-0.25 for g in growth], rel=5e-3)
    for run in runs:
        tokens = run.n_steps * run.batch_size * 16
        assert tokens / run.n_parameters == pytest.approx(20, rel=0.03)
    # 4 matrices of attention and 2 of the network, with biases, and two norms in each block, and the last norm
    assert baseline[1].n_parameters == 2 * (12 * 16**2 + 9 * 16 + 4 * 16) + 2 * 16


def test_a_variant_starts_from_its_own_learning_rate() -> None:
    spec = changed(variants={"slow": {"optimizer": {"type": "adamw", "lr": 0.001}}})
    rates = [r.learning_rate for r in plan_ladder(load_ladder_spec(spec)).runs if r.variant == "slow"]
    assert rates == pytest.approx([0.001 * g**-0.25 for g in (1, 8, 27, 64)], rel=5e-3)


def test_the_trials_are_the_runs_of_the_plan(tmp_path: Path) -> None:
    plan = plan_ladder(load_ladder_spec(LADDER))
    trials = make_plan(plan.ablation, tmp_path, costs=COSTS).trials
    assert len(trials) == 2 * 4 * 3
    for trial in trials:
        run = next(run for run in plan.runs if run.label == trial.variant)
        model = trial.spec.model
        assert (model.n_layers, model.d_model, model.n_heads) == (run.n_layers, run.d_model, run.n_heads)
        assert (trial.spec.batch_size, trial.spec.steps) == (run.batch_size, run.n_steps)
        assert trial.spec.optimizer.lr == run.learning_rate
        assert model.norm.type == ("post_ln" if run.variant == "post" else "pre_ln")


def test_each_variant_is_tuned_at_each_size(tmp_path: Path) -> None:
    plan = plan_ladder(load_ladder_spec(changed(tune={"factors": [0.5, 2.0]})))
    tuning = make_plan(plan.ablation, tmp_path, costs=COSTS).tuning
    rates = {(trial.variant, trial.spec.optimizer.lr) for trial in tuning}
    for run in plan.runs:
        assert run.learning_rate is not None
        for factor in (0.5, 2.0):
            assert any(v == run.label and r == pytest.approx(factor * run.learning_rate) for v, r in rates)
    assert len(tuning) == 2 * 8


def test_larger_sizes_take_the_factors_that_were_chosen_at_the_smallest(tmp_path: Path) -> None:
    small = changed(tune={"factors": [0.5, 1.0, 2.0], "n_sizes": 2}, sizes=[1, 2])
    plan = make_plan(plan_ladder(load_ladder_spec(small)).ablation, tmp_path, costs=COSTS)
    write_plan(tmp_path, plan)
    best = {"1l-baseline": 0.5, "2l-baseline": 1.0, "1l-post": 2.0, "2l-post": 2.0}
    by_rule = {run.label: run.learning_rate or 0.0 for run in plan_ladder(load_ladder_spec(small)).runs}
    for trial in plan.tuning:
        run = tmp_path / "trials" / trial.name
        run.mkdir(parents=True)
        distance = abs(math.log(trial.spec.optimizer.lr / by_rule[trial.variant] / best[trial.variant]))
        (run / "metrics.jsonl").write_text(json.dumps({"step": 10, "val/loss": 2 + distance}) + "\n")
        (run / "status.json").write_text('{"status": "done"}')
    whole = load_ladder_spec({**small, "sizes": [1, 2, 3]})  # a size that is added to the same folder
    ladder_plan = plan_ladder(whole)
    check_same_ladder(tmp_path, ladder_plan)
    plan = make_plan(ladder_plan.ablation, tmp_path, costs=COSTS)
    assert {trial.variant for trial in plan.tuning} == best.keys()
    rates = {variant.name: variant.spec.optimizer.lr for variant in plan.variants}
    by_rule = {run.label: run.learning_rate or 0.0 for run in ladder_plan.runs}
    factors = best | {"3l-baseline": 0.5**0.5, "3l-post": 2.0}
    assert rates == pytest.approx({label: factor * by_rule[label] for label, factor in factors.items()}, rel=1e-5)
    write_plan(tmp_path, plan)
    write_ladder(tmp_path, ladder_plan)
    text = shown(read_ladder(tmp_path))
    assert "tuned: 2l-post: optimizer.lr 0.01" in text
    assert re.search(
        r"tuned: 3l-baseline: optimizer\.lr 0\.0031\d*, 0\.707 times its own, from 1l-baseline, 2l-baseline", text
    )


@pytest.mark.parametrize(
    ("fields", "path", "reason"),
    [
        ({"variants": {"baseline": {}}}, "$.variants.baseline", "name of the base itself"),
        ({"variants": {"wide": {"model.d_model": 64}}}, "$.variants.wide", "is set by the rule"),
        ({"variants": {"typo": {"model.nrm": "post_ln"}}}, "$.variants.typo", "norm"),
        ({"sizes": [2, 1]}, "$.sizes", "increasing"),
        ({"seeds": 1}, "$.seeds", "at least two"),
        ({"n_held_out": 3}, "$.n_held_out", "fewer than two"),
        ({"extrapolate": [0.5]}, "$.extrapolate[0]", "greater than 1"),
        ({"tune": {"seeds": [1]}}, "$.tune.seeds", "seed of the ladder"),
        ({"tune": {"n_sizes": 5}}, "$.tune.n_sizes", "there are 4 sizes"),
    ],
)
def test_an_invalid_spec_is_refused_with_the_place(fields: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(SpecError) as caught:
        plan_ladder(load_ladder_spec(changed(**fields)))
    assert path in str(caught.value)
    assert reason in str(caught.value)


def test_the_spec_of_another_kind_is_named(tmp_path: Path) -> None:
    printed = command(write_file(tmp_path, {"base": BASE, "axes": {"model.norm": "*"}}))
    assert printed.exit_code == 2
    assert "expected the spec of a scaling ladder, got that of an ablation" in printed.output


def test_a_variant_that_equals_the_baseline_is_refused(tmp_path: Path) -> None:
    spec = changed(variants={"same": {"model.norm": "pre_ln"}}, sizes=[1, 2])
    with pytest.raises(InputError, match="1l-same cannot be trained: it is the same run"):
        ladder(spec, tmp_path / "out")
    assert not (tmp_path / "out" / "trials").exists()


# ---------------------------------------------------------------------- results


def test_the_result_is_the_fit_of_the_trials_and_the_prediction_of_the_held_out_size(tmp_path: Path) -> None:
    spec = changed(sizes=[1, 2, 3, 4, 5], n_held_out=1)
    points = finish(spec, tmp_path / "out")
    result = json.loads(to_json(read_ladder(tmp_path / "out").model_dump(mode="json")))
    jsonschema.validate(result, output_schema(LadderResult), cls=jsonschema.Draft202012Validator)
    analysis = result["analysis"]
    assert [round(p["flops"]) for p in analysis["points"]] == [round(p.flops) for p in points[:8]]
    fit = PowerLawFit(points[:8], "baseline")
    ratio = 10 * points[7].flops
    expected = math.exp(fit.log_multiplier("post", ratio).estimate)
    assert analysis["variants"][1]["extrapolated"][0]["multiplier"]["estimate"] == pytest.approx(expected)
    truth = (1 / EXCESS["post"]) ** (1 / EXPONENT)  # equal exponents: the same multiplier at all sizes
    interval = analysis["variants"][1]["extrapolated"][0]["multiplier"]
    assert interval["low"] < truth < interval["high"]
    held_out = analysis["held_out"][1]
    assert held_out["measured"] == pytest.approx(np.mean(points[9].losses))
    assert held_out["predicted"]["estimate"] == pytest.approx(fit.loss("post", points[9].flops).estimate)
    text = " ".join(result["findings"])
    assert f"At 10x: {interval['estimate']:#.3g}x ({interval['low']:#.3g} to {interval['high']:#.3g})." in text
    assert re.search(r"post, held out, [^.]*: predicted \d\.\d{4} nats per token of val/loss \(", text)
    assert re.search(r"Standard deviation between seeds: [\d.]+ nats per token of val/loss \(", text)
    assert "Mean and residual: val/loss (nats per token)." in shown(read_ladder(tmp_path / "out"))


def test_sizes_can_be_added_and_the_finished_trials_stay(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    before = {file.name for file in (tmp_path / "out" / "trials").iterdir()}
    finish(changed(sizes=[1, 2, 3, 4, 5]), tmp_path / "out")
    after = {file.name for file in (tmp_path / "out" / "trials").iterdir()}
    assert before < after
    assert len(after) == 30


def test_another_rule_is_refused_in_the_same_folder(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    spec = changed(rule={**LADDER["rule"], "tokens_per_parameter": 10})
    with pytest.raises(FolderError, match="has results of 1l-baseline under another rule"):
        ladder(spec, tmp_path / "out")


def test_too_few_results_say_what_is_missing(tmp_path: Path) -> None:
    spec = changed(sizes=[1, 2])
    finish(spec, tmp_path / "out")
    result = read_ladder(tmp_path / "out")
    assert result.analysis is None
    assert "No laws yet: a power law needs at least 3 sizes, and baseline has 2" in shown(result)


def test_the_text_reports_repeated_text_and_untuned_rates(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    text = shown(read_ladder(tmp_path / "out"))
    assert "read their training text more than once" in text
    assert "are not tuned for each variant" in text
    assert "effective compute multiplier over baseline" in text


def test_the_status_of_a_ladder_is_its_result_and_compares_no_sizes(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    result = read_ladder(tmp_path / "out")
    arguments = ["ablate", "status", str(tmp_path / "out")]
    printed = CliRunner().invoke(main, arguments)
    assert (printed.exit_code, printed.stdout) == (0, shown(result))
    as_json = CliRunner().invoke(main, [*arguments, "--json"]).stdout
    assert json.loads(as_json) == json.loads(to_json(result.model_dump(mode="json")))
    next((tmp_path / "out" / "trials").glob("2l-post-*/metrics.jsonl")).write_text("damaged")
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_seeds_that_are_added_are_a_warning_without_advice_for_ablations(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    finish(changed(seeds=4), tmp_path / "out")
    (warning,) = (w for w in read_ladder(tmp_path / "out").warnings if w.kind == "seeds added")
    assert "the intervals contain the truth less often than they say" in warning.text
    assert "looks" not in warning.text


@pytest.mark.slow
def test_a_ladder_is_planned_trained_and_read_again(tmp_path: Path) -> None:
    spec = changed(rule={"width_per_layer": 8, "head_width": 8, "tokens_per_parameter": 0.5}, seeds=2, sizes=[1, 2, 3])
    file = write_file(tmp_path, spec)
    planned = command(file, "--out", tmp_path / "out", "--dry-run", "--json")
    assert planned.exit_code == 0, planned.output
    assert json.loads(planned.stdout)["trials"] == 12
    assert not (tmp_path / "out").exists()
    trained = command(file, "--out", tmp_path / "out", "--json")
    assert trained.exit_code == 0, trained.output
    result = json.loads(trained.stdout)
    assert [len(p["losses"]) for p in result["analysis"]["points"]] == [2] * 6
    assert any("3 sizes" in reason for reason in result["analysis"]["unsupported"])
    again = command(file, "--out", tmp_path / "out", "--json")
    assert json.loads(again.stdout)["analysis"] == result["analysis"]


# ---------------------------------------------------------------------- warnings and reports


class Slow(gptzoo.Activation):
    """An activation that recommends a learning rate and a scale of the embeddings."""

    name = "slow"

    class Config(gptzoo.Activation.Config):
        def recommended(self, model: Mapping[str, Any]) -> Iterator[gptzoo.Recommended]:
            yield gptzoo.Recommended("optimizer.lr", "a test", factor=0.5)
            yield gptzoo.Recommended("model.architecture.embed_scale", "a test", value=float(model["d_model"]))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu()


def test_a_variant_takes_along_what_its_components_recommend_at_each_size(
    fresh_registry: object, tmp_path: Path
) -> None:
    admit(Slow)
    spec = changed(variants={"slow": {"model.activation": "slow"}}, sizes=[1, 2])
    ladder_plan = plan_ladder(load_ladder_spec(spec))
    plan = make_plan(ladder_plan.ablation, tmp_path, costs=COSTS)
    runs = {variant.name: variant.spec for variant in plan.variants}
    assert [runs[f"{n}l-slow"].model.architecture.embed_scale for n in (1, 2)] == [8.0, 16.0]
    assert [runs[f"{n}l-slow"].optimizer.lr for n in (1, 2)] == pytest.approx([0.005, 0.005 * 8**-0.25], rel=5e-3)
    assert [runs[f"{n}l-baseline"].optimizer.lr for n in (1, 2)] == pytest.approx([0.01, 0.01 * 8**-0.25], rel=5e-3)
    console = Console(file=io.StringIO(), width=200)
    print_ladder_plan(ladder_plan, plan, tmp_path, None, console)
    text = str(console.file.getvalue())  # type: ignore[attr-defined]
    assert "taken along by 2l-slow, as recommended: activation 'slow' with model.architecture.embed_scale 16" in text
    assert "laws need 3 fitted sizes, and there are 2" in text


def test_differences_that_a_ladder_has_by_design_are_no_warnings(tmp_path: Path) -> None:
    ladder_plan = plan_ladder(load_ladder_spec(LADDER))
    warnings = planned_warnings(ladder_plan, make_plan(ladder_plan.ablation, tmp_path, costs=COSTS))
    assert [warning.kind for warning in warnings] == ["text", "learning rate"]


def test_a_fixed_warmup_is_a_warning(tmp_path: Path) -> None:
    base = {**BASE, "schedule": {"type": "cosine", "warmup_steps": 100}}
    ladder_plan = plan_ladder(load_ladder_spec(changed(base=base)))
    warnings = list(planned_warnings(ladder_plan, make_plan(ladder_plan.ablation, tmp_path, costs=COSTS)))
    assert any(warning.kind == "schedule" and "warmup" in warning.text for warning in warnings)


def test_paths_in_a_variant_are_relative_to_the_spec(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("Once upon a time there was a text. " * 400)
    text = {"type": "text", "path": "mine.txt"}
    spec = changed(base={**BASE, "corpus": text}, variants={"post": {"corpus": text, "model.norm": "post_ln"}})
    plan = plan_ladder(load_ladder_spec(write_file(tmp_path, spec)))
    plans = make_plan(plan.ablation, tmp_path / "out", costs=COSTS).variants
    assert {variant.spec.corpus.path for variant in plans} == {str(tmp_path / "mine.txt")}


def test_a_rule_can_change_until_a_trial_has_started(tmp_path: Path) -> None:
    ladder_plan = plan_ladder(load_ladder_spec(LADDER))
    write_plan(tmp_path, make_plan(ladder_plan.ablation, tmp_path, costs=COSTS))
    other = plan_ladder(load_ladder_spec(changed(rule={**LADDER["rule"], "tokens_per_parameter": 10})))
    check_same_ladder(tmp_path, other)


def test_the_report_has_the_findings_figures_and_numbers(tmp_path: Path) -> None:
    finish(changed(sizes=[1, 2, 3, 4, 5], n_held_out=1, name="<b>tiny</b>"), tmp_path / "out")
    printed = CliRunner().invoke(main, ["report", str(tmp_path / "out"), "--json"])
    assert printed.exit_code == 0, printed.output
    report = json.loads(printed.stdout)
    result = read_ladder(tmp_path / "out")
    assert report["ladder"]["findings"] == list(result.findings)
    page = Path(report["page"]).read_text()
    assert "<b>tiny" not in page
    for text in (*result.findings, *(warning.text for warning in result.warnings)):
        assert html.escape(text, quote=False).replace('"', "&#34;") in page
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    loss, residuals, multipliers = json.loads(data)["figures"]
    assert result.analysis is not None
    law = result.analysis.variants[1]
    assert [m["y"] for m in multipliers["series"][0]["marks"]] == pytest.approx(
        [m.multiplier.estimate for m in (*law.multipliers, *law.extrapolated)], rel=1e-5
    )
    assert [len(series["marks"]) for series in loss["series"]] == [13, 13]  # 4 sizes with 3 seeds, and a held-out mean
    assert loss["series"][1]["curve"][-1][0] == pytest.approx(law.extrapolated[-1].flops, rel=1e-5)
    drawn = [mark["y"] for series in residuals["series"] for mark in series["marks"]]
    by_variant = sorted(result.analysis.points, key=lambda point: point.variant)
    assert drawn == pytest.approx([point.residual for point in by_variant], rel=1e-4)
    rows = list(csv.DictReader((tmp_path / "out" / "report" / "tables" / "results.csv").open()))
    assert [(row["variant"], row["held_out"]) for row in rows[-2:]] == [("baseline", "1"), ("post", "1")]
    assert float(rows[-1]["law"]) == result.analysis.held_out[1].predicted.estimate


def test_the_page_can_be_reproduced_and_has_nothing_private(tmp_path: Path) -> None:
    folder, text = tmp_path / "out", tmp_path / "my text.txt"
    text.write_text("the quick brown fox jumps over the lazy dog. " * 40)
    base = {**BASE, "corpus": {"type": "text", "path": str(text)}}
    source = b"import gptzoo\n"
    file = PluginFile("my gate.py", hashlib.sha256(source).hexdigest())
    finish(changed(base=base), folder)
    (folder / file.kept).parent.mkdir(parents=True)
    (folder / file.kept).write_bytes(source)
    design = json.loads((folder / "variants.json").read_text())
    del design["sha256"]
    write_json(folder / "variants.json", with_checksum({**design, "plugin_files": [asdict(file)]}))
    environment = {"torch": "2", "host": "ada-laptop", "plugins": {"gate": f"file {tmp_path}/my gate.py"}}
    for trial in folder.glob("trials/*"):
        (trial / "environment.json").write_text(json.dumps(environment))
        (trial / "warnings.json").write_text(json.dumps([f"{text}: is short"]))
    with ReportServer(folder, 0) as server:
        pages = [write_ladder_report(folder, tmp_path / "report").page.read_text(), server.page()]
    for page in pages:
        assert "gptzoo ladder ladder.json --plugin &#39;my gate.py&#39; --out tiny</code>" in page
        assert file.sha256 in page
        assert f'download="{file.name}" href="data:text/x-python;base64,{base64.b64encode(source).decode()}"' in page
        assert "my text.txt" in page
        assert not any(private in page for private in (str(tmp_path), "ada-laptop"))


def test_the_multipliers_of_the_page_are_sorted_by_their_own_value(tmp_path: Path) -> None:
    finish(LADDER, tmp_path / "out")
    page = write_ladder_report(tmp_path / "out", tmp_path / "report").page.read_text()
    analysis = read_ladder(tmp_path / "out").analysis
    assert analysis is not None
    for entry in analysis.variants[1].multipliers:
        estimate = entry.multiplier.estimate
        assert f'data-value="{estimate!r}">{format_factor(entry.multiplier)}</td>' in page


def test_the_report_of_a_ladder_without_results_says_what_is_missing(tmp_path: Path) -> None:
    ladder_plan = plan_ladder(load_ladder_spec(LADDER))
    write_plan(tmp_path, make_plan(ladder_plan.ablation, tmp_path, costs=COSTS))
    write_ladder(tmp_path, ladder_plan)
    page = write_ladder_report(tmp_path, tmp_path / "report").page.read_text()
    assert "Preliminary: 24 of 24 trials not done yet." in page
    assert "No laws yet: a power law needs at least 3 sizes, and baseline has 0." in page


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_browser_draws_the_figures_without_errors(tmp_path: Path, width: int, scheme: Any) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed: apt-get install chromium")
    finish(changed(sizes=[1, 2, 3, 4, 5], n_held_out=1), tmp_path / "out")
    file = write_ladder_report(tmp_path / "out", tmp_path / "report").page
    messages: list[str] = []
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.goto(file.as_uri())
        points = {name: page.locator(f"#figure-{name} circle.point").count() for name in ("loss", "residuals")}
        assert points == {"loss": 2 * 4 * 3 + 2, "residuals": 2 * 4}
        assert page.locator("#figure-loss path.line").count() == 2
        assert page.locator("#figure-multipliers circle.point").count() == 4 + 1
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        browser.close()
    assert messages == []
