"""docs/first-ablation.md: its spec is valid, its figures are those of the plan, and its commands run in order."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

import gptzoo
from gptzoo.cli import main
from gptzoo.model.accounting import count_parameters
from gptzoo.model.build import build_on_meta

PAGE = (Path(__file__).parents[1] / "docs" / "first-ablation.md").read_text(encoding="utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
N_STEPS = 6


def write_spec(folder: Path) -> Path:
    """Write the spec of the page."""
    (text,) = (text for language, text in BLOCKS if language == "yaml")
    file = folder / "activations.yaml"
    file.write_text(text)
    return file


def test_the_variants_have_the_parameters_that_the_page_shows(tmp_path: Path) -> None:
    spec = gptzoo.load_ablation_spec(write_spec(tmp_path))
    shown = dict(re.findall(r"^((?:gelu|relu)-\w+) +([\d,]+) ", PAGE, re.MULTILINE))
    variants = gptzoo.variants(spec.base, spec.axes)
    assert len(variants) == len(shown) == 4
    for variant in variants:
        model = variant.spec.model.model_copy(update={"vocab_size": 257})  # of the tokenizer byte
        n_parameters = count_parameters(build_on_meta(model)).total
        assert shown["-".join(variant.choices.values())] == f"{n_parameters:,}"


@pytest.mark.slow
def test_the_page_can_be_followed_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    write_spec(tmp_path)
    trials = tmp_path / "runs" / "activations" / "trials"
    finished: list[dict[Path, int]] = []
    for command in "".join(text for language, text in BLOCKS if language == "sh").splitlines():
        words = shlex.split(command)
        assert words[0] == "gptzoo"
        smaller = ["--set", f"base.steps={N_STEPS}", "--set", f"base.eval.every={N_STEPS}"]
        with pytest.raises(SystemExit) as ended:
            main([*words[1:], *(smaller if words[1] == "ablate" else [])])
        assert ended.value.code == 0
        finished.append({file: file.stat().st_mtime_ns for file in trials.glob("*/metrics.jsonl")})
        if "--dry-run" in words:
            assert "4 variants x 3 seeds = 12 trials" in capsys.readouterr().out
    planned, first, second, reported = finished
    assert (len(planned), len(first), len(second)) == (0, 12, 24)
    assert first.items() <= second.items()  # trials that are done are not trained again
    assert reported == second
    assert (tmp_path / "runs" / "activations" / "report" / "report.html").is_file()
