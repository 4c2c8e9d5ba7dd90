"""docs/look-inside.md: its numbers are those of the results, and its commands and code run with a small model."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from support import with_large_weights

import gptzoo
from benchmarks.look_inside import __main__ as command
from benchmarks.look_inside import measures
from benchmarks.look_inside.statements import statements, tables
from gptzoo.checkpoint.model_folder import LoadedModel, save_model
from gptzoo.cli import main
from gptzoo.data.tokenizers.byte import ByteTokenizer

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "look-inside.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
RESULTS: dict[str, Any] = json.loads((DOCS / "look-inside.json").read_text(encoding="utf-8"))
SPEC = {"vocab_size": 257, "context_length": 96, "d_model": 16, "n_layers": 3, "n_heads": 2}
SVGS = [f"look-inside-{name}.svg" for name in ("maps", "heads", "sinks", "lens")]


def one_line(text: str) -> str:
    return " ".join(text.split())


def small_model(folder: Path) -> LoadedModel:
    """Write a model of the tokenizer `byte`, and return it as loaded."""
    save_model(folder, with_large_weights(gptzoo.build(SPEC, seed=1)), ByteTokenizer(ByteTokenizer.Config()))
    return gptzoo.load(folder)


def test_the_page_has_the_sentences_and_tables_of_the_results() -> None:
    for text in (*statements(RESULTS), *tables(RESULTS)):
        assert one_line(text) in one_line(PAGE), f"the page must say: {text}"


def test_every_percentage_and_large_number_of_the_page_is_in_such_a_sentence() -> None:
    text = re.sub(r"^```.*?^```$|^\|.*?$|\(http[^)]*\)", "", PAGE, flags=re.DOTALL | re.MULTILINE)
    said = " ".join(statements(RESULTS))
    numbers = re.findall(r"\d+%|\d+,\d{3}|\d+\.\d+", text)
    assert numbers
    assert {number for number in numbers if number not in said} == set()


def test_the_early_sink_is_written_and_removed_by_the_blocks_that_the_page_names() -> None:
    norm = RESULTS["norms"]["first"]  # index i: the input of block i
    assert norm[3] > 10 * norm[1]
    assert norm[8] > 4 * norm[10]


@pytest.mark.parametrize("name", SVGS)
def test_a_figure_is_small_and_on_the_page(name: str) -> None:
    assert f"]({name})" in PAGE
    assert (DOCS / name).stat().st_size < 200_000


@pytest.mark.slow
def test_the_figures_are_those_of_the_results(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.look_inside import figures

    for name, draw in (("heads", figures.draw_heads), ("sinks", figures.draw_sinks), ("lens", figures.draw_lens)):
        with figures.matplotlib.rc_context(figures.SETTINGS):
            draw(RESULTS).savefig(tmp_path / f"{name}.svg", metadata={"Date": None})
        drawn, committed = (
            re.findall(r' d="(M [^"]*)"', file.read_text(encoding="utf-8"))
            for file in (tmp_path / f"{name}.svg", DOCS / f"look-inside-{name}.svg")
        )
        assert len(drawn) == len(committed), f"draw {name} again: python -m benchmarks.look_inside"


def test_the_commands_and_the_code_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small_model(tmp_path / "models" / "smollm2")
    loaded = small_model(tmp_path / "runs" / "quickstart")
    commands = [
        words
        for language, text in BLOCKS
        for line in text.splitlines()
        if language == "sh" and (words := shlex.split(line))[:2] in (["gptzoo", "inspect"], ["gptzoo", "score"])
    ]
    assert len(commands) == 3
    for words in commands:
        done = CliRunner().invoke(main, words[1:])
        assert done.exit_code == 0, done.output
    assert (tmp_path / "attention.html").is_file()
    assert (tmp_path / "lens.html").is_file()
    (source,) = (text for language, text in BLOCKS if language == "python")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(source, names)
    assert len(printed.getvalue().splitlines()) == 3
    expected = measures.mean_weights(loaded, names["tokens"].tolist())
    torch.testing.assert_close(names["first_token"], torch.tensor(expected["first_token"][-1]), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        names["previous_token"], torch.tensor(expected["previous_token"][-1]), rtol=1e-3, atol=1e-5
    )


@pytest.mark.slow
def test_the_command_measures_a_model_of_ones_own(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    loaded = small_model(tmp_path / "model")
    text = tmp_path / "input.txt"
    text.write_text("The cat sat on the mat. " * 20)
    assert command.main([str(tmp_path / "model"), "--text", str(text), "--out", str(tmp_path / "look")]) == 0
    results = json.loads((tmp_path / "look" / "look-inside.json").read_text())
    assert results["n_tokens"] == [64] * 4
    assert sorted(file.name for file in tmp_path.glob("look/*.svg")) == sorted(SVGS)
    last = results["lens"]["rows"][-1]  # the last row is the model's own prediction
    with torch.no_grad():
        logits = loaded.model(torch.tensor([loaded.tokenizer.encode(results["lens"]["prompt"])]))[0][0, -1]
    assert last["top_probability"] == pytest.approx(float(logits.softmax(-1).max()), rel=1e-3)
    assert last["rank"] == 1 + int((logits > logits[ord(" ")]).sum())
    assert [row["rank"] for row in results["lens"]["rows"]] == results["ranks"]["Italy"]


def test_induction_and_previous_token_heads_are_recognised(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Weights that are zero except where such a head looks give a mean of one."""
    loaded = small_model(tmp_path)
    n = measures.RANDOM_LENGTH

    def weights(_: LoadedModel, ids: list[int]) -> torch.Tensor:
        previous, matching = torch.zeros(2, len(ids), len(ids))
        for t in range(1, len(ids)):
            previous[t, t - 1] = 1.0
            earlier = [s for s in range(1, t) if ids[s - 1] == ids[t] and s >= t - n + 1]
            matching[t, earlier[-1] if earlier else 0] = 1.0
        return torch.stack([previous, matching])[None]

    monkeypatch.setattr(measures, "_weights", weights)
    assert measures.mean_weights(loaded, [[1, 2, 3, 4, 5, 6]])["previous_token"][0][0] == 1.0
    monkeypatch.setattr(
        torch, "randint", lambda high, size, generator: torch.randperm(high, generator=generator)[: size[0]]
    )
    assert measures.induction(loaded)[0][1] == 1.0


@pytest.mark.slow
@pytest.mark.skipif("GPTZOO_TEST_SMOLLM2" not in os.environ, reason="run by .ci/nightly, which installs the model")
def test_the_results_are_those_of_the_real_model() -> None:
    with command.model_folder(None) as folder:
        found = measures.measure(gptzoo.load(folder), measures.TEXTS, measures.CAPITALS)
    for key in ("n_tokens", "layers"):
        assert found[key] == RESULTS[key]
    for key, rows in RESULTS["heads"].items():
        torch.testing.assert_close(torch.tensor(found["heads"][key]), torch.tensor(rows), rtol=0, atol=0.01)
    for key, values in RESULTS["norms"].items():
        assert found["norms"][key] == pytest.approx(values, rel=0.01)
    assert [row["top"] for row in found["lens"]["rows"]] == [row["top"] for row in RESULTS["lens"]["rows"]]
    for country, ranks in RESULTS["ranks"].items():
        assert found["ranks"][country] == pytest.approx(ranks, rel=0.05, abs=1), country
        assert found["ranks"][country][-1] == ranks[-1]
