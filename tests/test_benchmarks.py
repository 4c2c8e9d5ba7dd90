"""The runner of the benchmarks, its statistics and bounds, and the reference that gptzoo is compared with."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support import needs_tiktoken_files

from benchmarks import __main__ as command
from benchmarks import enumeration, model_step, peers, startup, tokenising
from benchmarks.harness.bounds import BOUNDS, verdicts
from benchmarks.harness.case import Case, LeftOut, Mismatch, Options
from benchmarks.harness.environment import SAME
from benchmarks.harness.runner import OtherMachine, Results, run_case, run_subject
from benchmarks.harness.statistics import median_interval, spread
from benchmarks.harness.worker import start_worker

ROOT = Path(__file__).parents[1]
MACHINE = {**dict.fromkeys(SAME, "x"), "cores": 2, "threads": 1}
TINY = model_step.TINY["tiny"]


class Calls:
    """Sides that record the order of their calls, and return numbers of their own."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.made: list[str] = []
        self.stop_after = stop_after

    def side(self, name: str, value: float) -> Callable[[], float]:
        def call() -> float:
            if self.stop_after is not None and len(self.made) == self.stop_after:
                raise KeyboardInterrupt
            self.made.append(name)
            return value

        return call

    def case(self, **changes: Any) -> Case:
        sides = {"gptzoo": self.side("gptzoo", 2.0), "peer": self.side("peer", 3.0)}
        case = Case("one", sides, check=lambda: self.made.append("check"), rounds=3, untimed=0, warmup=0)
        return replace(case, **changes)


def results(folder: Path, **machine: Any) -> Results:
    return Results(folder / "subject-cpu.json", "A title.", {**MACHINE, **machine})


@pytest.mark.parametrize(
    ("n", "ranks"), [(3, (1, 3)), (5, (1, 5)), (6, (1, 6)), (10, (2, 9)), (15, (4, 12)), (20, (6, 15)), (60, (22, 39))]
)
def test_the_interval_of_a_median_has_the_ranks_of_the_sign_test(n: int, ranks: tuple[int, int]) -> None:
    """The ranks are those of published tables for 95%."""
    values = [float(value) for value in range(1, n + 1)]
    assert median_interval(values[::-1]) == ranks


def test_the_spread_of_values() -> None:
    expected = {"median": 3.0, "quartiles": [2.0, 4.0], "interval": [1.0, 5.0], "n": 5}
    assert spread([5.0, 1.0, 3.0, 2.0, 4.0]) == expected


def test_sides_take_turns_after_one_check_and_ratios_are_to_the_base(tmp_path: Path) -> None:
    calls = Calls()
    entry = run_case(calls.case(untimed=1), results(tmp_path))
    turns = ["gptzoo"] * 2 + ["peer"] * 2 + ["peer"] * 2 + ["gptzoo"] * 2 + ["gptzoo"] * 2 + ["peer"] * 2
    assert calls.made == ["check", *turns]
    assert entry["values"] == {"gptzoo": [2.0] * 3, "peer": [3.0] * 3}
    assert entry["ratios"]["peer / gptzoo"]["median"] == 1.5
    assert "| one | peer | 3 s (3 to 3) | 1.500 (1.5 to 1.5) | 3 |" in (tmp_path / "subject-cpu.md").read_text()


def test_an_interrupted_case_continues_with_the_rounds_that_it_lacks(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run_case(Calls(stop_after=4).case(), results(tmp_path))  # the check, and three calls
    stored = json.loads((tmp_path / "subject-cpu.json").read_text())["cases"]["one"]
    assert (stored["status"], stored["values"]["peer"]) == ("interrupted", [3.0])
    again = Calls()
    assert run_case(again.case(), results(tmp_path))["status"] == "done"
    assert sorted(again.made) == ["check", "gptzoo", "gptzoo", "peer", "peer"]
    third = Calls()
    run_case(third.case(), results(tmp_path))
    assert third.made == []  # nothing is left to do


def test_results_of_other_settings_are_measured_anew_and_those_of_another_machine_are_refused(tmp_path: Path) -> None:
    run_case(Calls().case(settings={"width": 1}), results(tmp_path))
    other = Calls()
    run_case(other.case(settings={"width": 2}), results(tmp_path))
    assert other.made.count("peer") == 3
    with pytest.raises(OtherMachine, match="threads: 1, now 2"):
        results(tmp_path, threads=2)


def test_a_mismatch_is_reported_and_nothing_is_timed(tmp_path: Path) -> None:
    calls, told = Calls(), []

    def fail() -> None:
        raise Mismatch("other weights")

    cases = [LeftOut("absent", "not installed"), calls.case(check=fail)]
    assert not run_subject(lambda: cases, results(tmp_path), told.append, None)
    assert calls.made == []
    assert told == ["absent: left out, not installed", "one: mismatch other weights"]
    table = (tmp_path / "subject-cpu.md").read_text()
    assert "mismatch: other weights" in table
    assert "left out: not installed" in table


@pytest.mark.parametrize(
    ("bound", "status"),
    [
        ({"median_at_least": 1.5}, "holds"),
        ({"median_at_least": 1.6}, "broken"),
        ({"median_at_most": 1.4}, "broken"),
        ({"low_at_least": 1.2, "high_at_least": 1.7}, "holds"),
        ({"low_at_least": 1.3}, "broken"),
        ({"high_at_least": 1.8}, "broken"),
        ({"case": "another", "median_at_least": 1.0}, "not measured"),
    ],
)
def test_bounds_are_held_to_the_median_and_its_interval(bound: dict[str, Any], status: str, tmp_path: Path) -> None:
    ratio = {"median": 1.5, "interval": [1.2, 1.7]}
    entry = {"status": "done", "ratios": {"peer / gptzoo": ratio}}
    (tmp_path / "subject-cpu.json").write_text(json.dumps({"cases": {"one": entry}}))
    file = tmp_path / "bounds.json"
    file.write_text(json.dumps([{"subject": "subject", "case": "one", "ratio": "peer / gptzoo", **bound}]))
    assert [verdict.status for verdict in verdicts(tmp_path, file)] == [status]


def test_each_bound_names_a_case_and_a_ratio_that_exist(tmp_path: Path) -> None:
    options = Options(text=Path(__file__), nanogpt=tmp_path, folder=tmp_path, pythons=dict.fromkeys(peers.PEERS, ""))
    known = {}
    for subject in {bound["subject"] for bound in json.loads(BOUNDS.read_text())}:
        module: Any = __import__(f"benchmarks.{subject}", fromlist=["cases"])
        for case in module.cases(options):
            known[subject, case.name] = {f"{side} / {case.base}" for side in case.sides}
    for bound in json.loads(BOUNDS.read_text()):
        assert bound["ratio"] in known[bound["subject"], bound["case"]]


def run_command(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmarks", *map(str, arguments)])
    return command.main()


def test_the_command_measures_a_subject_and_continues_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("fused", "--tiny", "--rounds", "2", "--out", tmp_path)
    assert run_command(monkeypatch, *arguments) == 0
    first = (tmp_path / "fused-cpu-tiny.json").read_text()
    data = json.loads(first)
    assert data["environment"]["torch"] == torch.__version__
    assert set(data["cases"]["adamw, tiny"]["ratios"]) == {"loop / fused", "foreach / fused"}
    assert run_command(monkeypatch, *arguments) == 0
    assert json.loads((tmp_path / "fused-cpu-tiny.json").read_text())["cases"] == data["cases"]
    assert run_command(monkeypatch, "check", "--out", tmp_path) == 0  # tiny results are not held to bounds
    assert "not measured" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nothing"], "no subject 'nothing'"), (["--rounds", "0"], "--rounds"), (["--python", "x"], "PEER=PATH")],
)
def test_wrong_arguments_exit_with_code_2(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run_command(monkeypatch, *arguments)
    assert exit_.value.code == 2
    assert message in capsys.readouterr().err


def test_the_modules_with_cases_are_the_subjects() -> None:
    assert {"model_step", "train_run", "fused", "startup", "enumeration", "tokenising"} <= set(command.subjects())
    assert "reference" not in command.subjects()


def test_enumeration_is_compared_with_specs_read_one_by_one(tmp_path: Path) -> None:
    (case,) = enumeration.cases(Options(tiny=True, folder=tmp_path))
    case.check()
    assert case.settings == {"variants": 88, "exclusions": 32}
    assert {name: (side() or 0) > 0 for name, side in case.sides.items()} == dict.fromkeys(case.sides, True)


@needs_tiktoken_files
def test_both_sides_of_tokenising_have_the_same_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path))  # the benchmark sets it
    text = tmp_path / "text.txt"
    text.write_text("To be, or not to be, that is the question. Ünïcode: 東京. " * 400, encoding="utf-8")
    (without_text,) = tokenising.cases(Options(tiny=True, folder=tmp_path))
    assert isinstance(without_text, LeftOut)
    (case,) = tokenising.cases(Options(tiny=True, text=text, folder=tmp_path))
    assert isinstance(case, Case)
    case.check()
    assert set(case.sides) == {"gptzoo", "tiktoken"}


@pytest.mark.slow
def test_the_seconds_of_commands_are_compared_with_their_limit(tmp_path: Path) -> None:
    by_name = {case.name: case for case in startup.cases(Options(tiny=True, folder=tmp_path))}
    train = by_name["one step of train"]
    train.check()
    assert (train.sides["import torch + 1.0 s"]() or 0) > 1
    assert (train.sides["gptzoo"]() or 0) > 0  # in another folder than that of the check


# ---------------------------------------------------------------------- the sides of a training step


@pytest.fixture
def comparison() -> Iterator[model_step.Comparison]:
    with contextlib.ExitStack() as stack:
        comparison = model_step.Comparison(replace(TINY, dropout=0.2), Options(), stack)
        comparison.names = ["gptzoo", "reference"]
        yield comparison


def test_the_reference_with_the_same_weights_has_the_loss_and_gradients_of_gptzoo(
    comparison: model_step.Comparison,
) -> None:
    comparison.check()
    ours, reference = (comparison.peers[name].model.get_parameter for name in ("gptzoo", "reference"))
    for peer in comparison.peers.values():
        peer.loss().backward()
    pairs = {"model.embed.weight": "tokens.weight", "model.blocks.1.ffn.up.bias": "blocks.1.up.bias"}
    for our_name, their_name in pairs.items():
        torch.testing.assert_close(ours(our_name).grad, reference(their_name).grad, rtol=1e-4, atol=1e-7)


def test_other_weights_are_a_mismatch(comparison: model_step.Comparison) -> None:
    comparison.check()
    with torch.no_grad():
        comparison.peers["gptzoo"].model.get_parameter("model.blocks.0.attention.qkv.weight").mul_(3)
    with pytest.raises(Mismatch, match=r"gptzoo has a (loss|gradient norm) of"):
        model_step.check_same("gptzoo", comparison.peers["gptzoo"], comparison.peers["reference"])


def test_both_sides_take_the_same_steps_without_dropout() -> None:
    with contextlib.ExitStack() as stack:
        comparison = model_step.Comparison(TINY, Options(), stack)
        comparison.names = ["gptzoo", "reference"]
        comparison.check()
        for _ in range(3):
            comparison.step("gptzoo")
            comparison.step("reference")
        ours, reference = (comparison.peers[name].loss().item() for name in ("gptzoo", "reference"))
    assert ours == pytest.approx(reference, rel=1e-5)


def test_a_model_of_another_size_is_a_mismatch() -> None:
    size = 10_000.0
    model_step.check_facts("untied", {"parameters": size + 65 * 16, "loss": 4.2}, size, TINY)
    with pytest.raises(Mismatch, match="15,000 parameters"):
        model_step.check_facts("larger", {"parameters": 15_000, "loss": 4.2}, size, TINY)
    with pytest.raises(Mismatch, match="an initial loss of 1"):
        model_step.check_facts("trained", {"parameters": size, "loss": 1.0}, size, TINY)


@pytest.mark.slow
def test_a_peer_may_run_in_an_environment_of_its_own() -> None:
    here = peers.make_reference(TINY).facts()
    with start_worker(sys.executable, "benchmarks.peers", peers.worker_arguments("reference", TINY)) as worker:
        assert worker.ask("facts") == here
        assert worker.ask("step") > 0


@pytest.mark.slow
def test_whole_training_runs_are_measured(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cat sat on the mat and the dog sat on the log.\n" * 200)
    subprocess.run(
        [sys.executable, "-m", "benchmarks", "train_run", "--tiny", "--rounds", "1", "--text", text, "--out", tmp_path],
        cwd=ROOT,
        check=True,
    )
    cases = json.loads((tmp_path / "train_run-cpu-tiny.json").read_text())["cases"]
    assert [cases[name]["status"] for name in ("time", "peak memory", "nanoGPT")] == ["done", "done", "left out"]
    assert cases["peak memory"]["sides"]["gptzoo"]["median"] > 0.1
