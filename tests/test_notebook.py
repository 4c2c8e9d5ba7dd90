"""The HTML of objects in notebooks: their numbers, their drawings, escaped texts, and well-formed markup."""

from __future__ import annotations

import base64
import html
import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ablation.comparison.test_compare import LEAD, A, B, finish
from outcomes import outcome
from support import small
from synthetic_outcome import HOSTILE

import gptzoo
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.sampling.text_model import TextModel

EMPTY_ELEMENTS = {"img", "br"}
ALLOWED = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "details", "summary", "pre", "img"}


class Checker(HTMLParser):
    """A parser that finds elements and attributes of a text that was not escaped, and elements that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        assert tag in ALLOWED
        assert {name for name, _ in attrs} <= {"style", "alt", "src", "scope"}
        if tag not in EMPTY_ELEMENTS:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def shown(value: Any) -> str:
    """Return the text that a notebook shows for a value. Fail for markup that is not as it should be."""
    formatters = pytest.importorskip("IPython.core.formatters")
    markup = formatters.HTMLFormatter()(value)
    assert markup == gptzoo.to_html(value)
    checker = Checker()
    checker.feed(markup)
    checker.close()
    assert checker.open == []
    return checker.text


def drawing_in(value: Any) -> str:
    (data,) = re.findall(r'src="data:image/svg\+xml;base64,([^"]+)"', value._repr_html_())
    return base64.b64decode(data).decode()


def test_a_model_spec_is_drawn() -> None:
    spec = gptzoo.load_model_spec(small(name=HOSTILE))
    assert HOSTILE in shown(spec)
    assert drawing_in(spec) == gptzoo.draw(spec).svg()
    assert f'alt="Drawing of the model {html.escape(HOSTILE)}"' in spec._repr_html_()
    assert json.dumps(spec.d_model) in shown(spec)


def test_a_spec_without_vocabulary_says_why_there_is_no_drawing() -> None:
    spec = gptzoo.load_model_spec(small(vocab_size=None))
    assert "no vocab_size yet" in shown(spec)
    assert "<img" not in spec._repr_html_()


def test_a_run_and_an_ablation_show_their_settings() -> None:
    run = gptzoo.load_run_spec({**A, "name": HOSTILE})
    text = shown(run)
    for part in (HOSTILE, "corpus\nstories\n", "optimizer\nadamw\n", "steps\n10\n", "batch size\n4\n"):
        assert part in text
    assert drawing_in(run) == gptzoo.draw(run.model).svg()
    axes = {
        "model.norm": ["pre_ln", {"type": "post_ln"}],
        "model.positional": "*",
        "optimizer.lr": {"low": 0.001, "high": 0.1, "log": True},
        "model.d_model": {"choices": {"small": 8, "large": 16}},
    }
    search = {"mode": "tpe", "n_variants": 4, "halving": {"rungs": [0.3]}}
    text = shown(gptzoo.load_ablation_spec({"name": HOSTILE, "base": A, "axes": axes, **search}))
    assert 'model.norm\npre_ln, {"type": "post_ln"}\nmodel.positional\nall registered components\n' in text
    assert "optimizer.lr\n0.001 to 0.1, uniform in the logarithm\nmodel.d_model\nsmall, large\n" in text
    for part in (HOSTILE, "seeds\n1, 2, 3\n", "metric\nval/loss\n"):
        assert part in text


def test_a_model_shows_its_parameters_and_drawing(tmp_path: Path) -> None:
    model = gptzoo.build(small())
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    assert f"parameters\n{n_parameters:,}\ndevice\ncpu\n" in shown(model)
    assert drawing_in(model) == gptzoo.draw(small()).svg()
    for loaded in (kind(model, None, Path("<b>")) for kind in (LoadedModel, TextModel)):
        assert "folder\n<b>\ntokenizer\nnone\nmodel\nparameters\n" in shown(loaded).replace("\n\n", "\n")


def test_a_run_that_is_trained_and_evaluated_shows_its_numbers(tmp_path: Path) -> None:
    result = gptzoo.train({**A, "steps": 2, "eval": {"every": 1}}, tmp_path / "run", quiet=True)
    text = shown(result)
    assert f"folder\n{tmp_path / 'run'}\nsteps\n2\n" in text
    assert f"val/loss\n{result.metrics['val/loss']:.4f}\n" in text
    evaluation = gptzoo.evaluate(tmp_path / "run")
    text = shown(evaluation)
    assert f"loss\n{evaluation.likelihood.loss:.4f} nats per token\n" in text
    assert f"bits per byte\n{evaluation.likelihood.bits_per_byte:.4f}\n" in text


def test_an_outcome_ranks_its_variants() -> None:
    losses: Any = {"sdpa": {1: 2.0, 2: 2.2, 3: 2.1}, HOSTILE: {1: 1.0, 2: 1.1, 3: None}}
    text = shown(outcome(losses))
    table = text.replace("\n", " ")
    assert f"{HOSTILE} 2/3 {statistics.fmean([1.0, 1.1]):.4f} {statistics.stdev([1.0, 1.1]):.4f}" in table
    assert table.index(f"{HOSTILE} 2/3") < table.index("sdpa 3/3 2.1000 0.1000")
    assert f"failed: {HOSTILE} seed 3: diverged: the loss is nan" in text


@pytest.mark.slow
def test_a_comparison_and_a_ladder_say_what_was_found(tmp_path: Path) -> None:
    for name, spec in (("a", A), ("b", B)):
        (tmp_path / f"{name}.json").write_text(json.dumps(spec))
    paths = (tmp_path / "a.json", tmp_path / "b.json")
    finish(paths, tmp_path / "out", LEAD)
    result = gptzoo.compare(*paths, out=tmp_path / "out")
    text = shown(result)
    assert text.startswith("better\nrun\nparameters\nval/loss\nseeds\n")
    assert result.a.mean is not None
    assert f"\n{result.a.parameters:,}\n{result.a.mean.value:.4f} (" in text
    assert result.sentence in text
    fields: Any = {"name": HOSTILE, "trained": "T.", "findings": ("<i>F.",), "missing": "", "warnings": ()}
    assert shown(LadderResult.model_construct(**fields)) == f"{HOSTILE}\nT.\n<i>F.\n"


def test_other_objects_are_refused() -> None:
    with pytest.raises(TypeError, match=r"specs, models, runs, evaluations and outcomes, not int"):
        gptzoo.to_html(3)
