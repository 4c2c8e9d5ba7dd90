"""The claims of papers: every component has an entry, verdicts follow from the results, and the page is theirs."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

import gptzoo
from gptzoo import registry

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # benchmarks/ is no part of the package

from benchmarks.claims import catalog, measures, page, run, verdicts  # noqa: E402
from benchmarks.claims.__main__ import PAGE  # noqa: E402
from benchmarks.claims.catalog import Entry, Quantity, Statement  # noqa: E402

ENTRIES = catalog.read_catalog()
BY_ABLATION = catalog.statements_by_ablation(ENTRIES)


# ---------------------------------------------------------------------- the catalog

WITHOUT_CLAIMS = {"families", "optimizers", "ray", "seq2seq", "slurm"}  # optimizers of libraries have their own page


@pytest.fixture(scope="module")
def packages() -> registry.Registry:
    """The built-in components and those of the installed packages of this repository that have claims."""
    ours = {file.parent.name.removeprefix("gptzoo-") for file in ROOT.glob("plugins/*/pyproject.toml")}
    installed = {entry.name for entry in entry_points(group="gptzoo")}
    return registry.discover(",".join(sorted((ours & installed) - WITHOUT_CLAIMS)) or "none")


def test_every_component_of_these_kinds_has_an_entry(packages: registry.Registry) -> None:
    names = {(kind, name) for kind in catalog.KINDS for name in packages.of_kind(kind)}
    assert names - {entry.key for entry in ENTRIES} == set()


def test_the_entries_are_those_of_the_gallery_and_the_built_in_optimizers() -> None:
    gallery = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", gallery, re.MULTILINE))
    with registry.use(registry.discover("none")) as built_in:
        optimizers = {("optimizer", name) for name in built_in.of_kind("optimizer")}
    expected = {key for key in listed if key[0] in catalog.KINDS} | optimizers
    assert {entry.key for entry in ENTRIES} == expected


def test_every_entry_has_statements_or_a_reason_for_none() -> None:
    for entry in ENTRIES:
        assert sum(map(bool, (entry.statements, entry.not_testable, entry.no_claim))) == 1, entry.component
        assert entry.source
        assert entry.claim or entry.no_claim


def test_every_ablation_tests_a_statement() -> None:
    assert {file.stem for file in catalog.SPECS.glob("*.json")} == set(BY_ABLATION)


@pytest.mark.parametrize("name", BY_ABLATION)
def test_the_variants_of_the_statements_exist(name: str, packages: registry.Registry) -> None:
    with registry.use(packages):
        try:
            spec = gptzoo.load_ablation_spec(catalog.SPECS / f"{name}.json")
            variants = {variant.name for variant in gptzoo.variants(spec.base, spec.axes)}
        except gptzoo.SpecError as error:
            if "is in the package gptzoo-" in str(error):
                pytest.skip("needs a package of plugins/")
            raise
    assert spec.name == name
    used = {quantity for statement in BY_ABLATION[name] for quantity in statement.quantities}
    assert {quantity.variant for quantity in used} <= variants
    assert all(quantity.measure.startswith("val/") or quantity.measure in measures.EXTRA for quantity in used)


# ---------------------------------------------------------------------- the page


def test_no_result_is_of_other_statements_than_those_of_the_catalog() -> None:
    results = verdicts.read_results(run.RESULTS)
    assert verdicts.changed_since_run(ENTRIES, results) == []
    for name, result in results.items():
        assert result["ablation"] == name


def test_the_page_is_that_of_the_catalog_and_the_results() -> None:
    rendered = page.render(ENTRIES, verdicts.read_results(run.RESULTS))
    assert PAGE.read_text(encoding="utf-8") == rendered, "out of date; run python -m benchmarks.claims page"


def test_a_change_of_a_margin_after_the_run_is_found() -> None:
    (statement, *others) = BY_ABLATION["extrapolation"]
    before = {"extrapolation": {"registered": catalog.digest("extrapolation", [statement, *others])}}
    assert verdicts.changed_since_run(ENTRIES, before) == []
    changed = {"extrapolation": {"registered": catalog.digest("extrapolation", [moved(statement, 0.5), *others])}}
    assert verdicts.changed_since_run(ENTRIES, changed) == ["extrapolation"]
    reworded = replace(statement, text="another wording")
    assert catalog.digest("extrapolation", [reworded, *others]) == before["extrapolation"]["registered"]


def moved(statement: Statement, margin: float) -> Statement:
    return replace(statement, margin=margin)


# ---------------------------------------------------------------------- verdicts

A, B = Quantity("alibi", "val/loss"), Quantity("rope", "val/loss")
BELOW = Statement("a is below b", "extrapolation", A, B, "below", -0.1)


def result_of(left: list[float], right: list[float] | None = None) -> dict[str, Any]:
    sides = {"alibi": left} if right is None else {"alibi": left, "rope": right}
    by_seed = {name: {str(seed): value for seed, value in enumerate(of, 1)} for name, of in sides.items()}
    return {"extrapolation": {"measures": {"val/loss": by_seed}}}


def verdict(statement: Statement, results: dict[str, Any]) -> str:
    return verdicts.judge([Entry("positional:alibi", "", statements=[statement])], results)[statement].verdict


NOISE = np.array([-0.002, -0.001, 0.0, 0.001, 0.002])


@pytest.mark.parametrize(
    ("expected", "margin", "difference", "verdict_of_it"),
    [
        ("below", -0.1, -0.2, "agrees"),
        ("below", -0.1, -0.05, "disagrees"),  # lower, but by less than was claimed
        ("below", -0.1, -0.1, "cannot tell"),
        ("below", 0.1, 0.05, "agrees"),  # not worse by more than the margin
        ("above", 0.1, 0.2, "agrees"),
        ("above", 0.1, 0.0, "disagrees"),
        ("within", 0.1, 0.05, "agrees"),
        ("within", 0.1, -0.2, "disagrees"),
        ("within", 0.1, 0.1, "cannot tell"),
    ],
)
def test_a_verdict_is_the_side_of_the_margin_on_which_the_interval_is(
    expected: Any, margin: float, difference: float, verdict_of_it: str
) -> None:
    right = np.array([2.0, 2.3, 1.9, 2.1, 2.2])
    results = result_of(list(right + difference + NOISE), list(right))
    assert verdict(Statement("", "extrapolation", A, B, expected, margin), results) == verdict_of_it


def test_verdicts_are_those_of_t_tests_with_a_step_down_by_hand() -> None:
    rng = np.random.default_rng(0)
    seen = set()
    for _ in range(50):
        samples = [rng.normal(shift, 0.1, size=5) for shift in rng.normal(0.1, 0.3, size=6)]
        values = {f"v{n}": {str(seed): value for seed, value in enumerate(of)} for n, of in enumerate(samples)}
        statements = [Statement("", "extrapolation", Quantity(name, "m"), None, "below", 0.1) for name in values]
        entries = [Entry("positional:alibi", "", statements=statements)]
        judged = verdicts.judge(entries, {"extrapolation": {"measures": {"m": values}}})
        p = [stats.ttest_1samp(of, 0.1).pvalue for of in samples]
        rejected = set()
        for n_left, index in zip(range(6, 0, -1), np.argsort(p), strict=True):
            if p[index] > 0.05 / n_left:
                break
            rejected.add(index)
        for index, (statement, of) in enumerate(zip(statements, samples, strict=True)):
            side = "agrees" if of.mean() < 0.1 else "disagrees"
            assert judged[statement].verdict == (side if index in rejected else "cannot tell")
            assert judged[statement].value == pytest.approx(of.mean())
            seen.add(judged[statement].verdict)
    assert seen == {"agrees", "disagrees", "cannot tell"}


def test_statements_that_were_not_run_count_in_the_correction() -> None:
    left = [1.0, 1.01, 0.99, 1.005, 0.995]
    statement = Statement("", "extrapolation", A, None, "below", 1.02)
    assert verdict(statement, result_of(left)) == "agrees"
    others = [Statement("", "depth", Quantity("deepnorm", f"val/{n}"), None, "below", 0.0) for n in range(40)]
    entry = Entry("positional:alibi", "", statements=[statement, *others])
    judged = verdicts.judge([entry], result_of(left))
    assert judged[statement].verdict == "cannot tell"
    half_width = stats.t.isf(0.05 / 41 / 2, 4) * stats.sem(left)
    assert judged[statement].high == pytest.approx(np.mean(left) + half_width)
    assert judged[others[0]].verdict == "not run yet"
    assert verdicts.verdict_on(entry, judged) == "not run yet"


def test_a_failed_trial_leaves_the_statement_open() -> None:
    assert verdict(BELOW, result_of([1, 1.001, 1.002, 0.999, 0.998], [2, 2, 2, 2, 2])) == "agrees"
    assert verdict(BELOW, result_of([1, 1.001, 1.002, 0.999], [2, 2, 2, 2, 2])) == "cannot tell"
    assert verdict(BELOW, result_of([1, 1.001, 1.002, 0.999, 0.998], [])) == "cannot tell"


def test_a_claim_disagrees_if_one_of_its_statements_does() -> None:
    low, high = (
        Statement("", "extrapolation", A, None, "below", 2.0),
        Statement("", "extrapolation", A, None, "above", 2.0),
    )
    entry = Entry("positional:alibi", "", statements=[low, high])
    judged = verdicts.judge([entry], result_of([1.0, 1.01, 0.99, 1.02, 0.98]))
    assert (judged[low].verdict, judged[high].verdict) == ("agrees", "disagrees")
    assert verdicts.verdict_on(entry, judged) == "disagrees"
    assert verdicts.verdict_on(Entry("ffn:mlp", "", no_claim="baseline"), {}) == "no empirical claim"
