"""`to_html`, the HTML that notebooks show for specs, models, runs, evaluations and outcomes.

It is plain HTML without scripts and style sheets, and in the colours of the notebook. Every text is escaped.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from functools import singledispatch

from gptzoo.ablation.comparison.result import ComparisonResult, IntervalResult
from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.scaling.result import LadderResult
from gptzoo.ablation.statistics.analyse import analyse_reproducibly
from gptzoo.ablation.terminal.print_outcome import outcome_sentences, variant_rows
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.inspection.drawing.drawing import draw
from gptzoo.model.architecture import Architecture
from gptzoo.spec.ablation import AblationSpec
from gptzoo.spec.ablation_axes import AxisSpec
from gptzoo.spec.model import ModelSpec
from gptzoo.spec.run import RunSpec
from gptzoo.strict_model import StrictModel
from gptzoo.training.evaluation.describe import describe_evaluation
from gptzoo.training.evaluation.evaluate import Evaluation
from gptzoo.training.trainer import TrainResult
from gptzoo.utils.json_text import to_json

_LENGTHS = ("steps", "tokens", "epochs")


@singledispatch
def to_html(value: object) -> str:
    """Return the HTML that notebooks show for a spec, a model, a run, an evaluation or an outcome.

    Raises TypeError for other objects.
    """
    raise TypeError(
        f"gptzoo.to_html describes specs, models, runs, evaluations and outcomes, not {type(value).__name__}"
    )


@to_html.register
def _(spec: ModelSpec) -> str:
    return _heading(spec.name) + _drawing(spec) + _json(spec)


@to_html.register
def _(spec: RunSpec) -> str:
    facts = {name: getattr(spec, name).type for name in ("corpus", "tokenizer", "optimizer", "schedule")}
    lengths = {name: f"{length:,}" for name in _LENGTHS if (length := getattr(spec, name)) is not None}
    table = _facts({**facts, **lengths, "batch size": f"{spec.batch_size:,}", "seed": spec.seed})
    return _heading(spec.name) + table + _drawing(spec.model) + _json(spec)


@to_html.register
def _(spec: AblationSpec) -> str:
    axes = {path: _choices(axis) for path, axis in spec.axes.items()}
    seeds = ", ".join(map(str, spec.seeds))
    return _heading(spec.name) + _facts({**axes, "seeds": seeds, "metric": spec.metric}) + _json(spec)


@to_html.register
def _(model: Architecture) -> str:
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    device = next((parameter.device for parameter in model.parameters()), None)
    facts = _facts({"parameters": f"{n_parameters:,}", "device": device})
    return _heading(model.spec.name) + facts + _drawing(model.spec) + _json(model.spec)


@to_html.register
def _(loaded: LoadedModel) -> str:
    tokenizer = "none" if loaded.tokenizer is None else loaded.tokenizer.name
    return _facts({"folder": loaded.folder, "tokenizer": tokenizer}) + to_html(loaded.model)


@to_html.register
def _(run: TrainResult) -> str:
    numbers = {name: f"{value:.4f}" for name, value in run.metrics.items() if name in ("train/loss", "val/loss")}
    if "val/bits_per_byte" in run.metrics:
        numbers["val/bits_per_byte"] = f"{run.metrics['val/bits_per_byte']:.3f}"
    facts = {"folder": run.folder, "steps": f"{run.steps:,}{' (paused)' if run.paused else ''}", **numbers}
    if run.best_step is not None:
        facts["best step"] = f"{run.best_step:,}"
    return _facts(facts) + _sentences(run.warnings)


@to_html.register
def _(evaluation: Evaluation) -> str:
    return _facts({"model": evaluation.folder, **describe_evaluation(evaluation)})


@to_html.register
def _(outcome: Outcome) -> str:
    analysis = analyse_reproducibly(outcome)
    header, *rows = variant_rows(outcome, analysis)
    return _heading(outcome.name) + _table(header, rows) + _sentences(outcome_sentences(outcome, analysis))


@to_html.register
def _(result: ComparisonResult) -> str:
    rows = [
        (side.name, f"{side.parameters:,}", _interval(side.mean), str(len(side.values)))
        for side in (result.a, result.b)
    ]
    header = ("run", ">parameters", f">{result.metric}", ">seeds")
    sentences = (result.sentence, *map(str, result.warnings), *result.notes)
    return _heading(result.verdict) + _table(header, rows) + _sentences(sentences)


@to_html.register
def _(result: LadderResult) -> str:
    missing = [result.missing] if result.missing else []
    return _heading(result.name) + _sentences((result.trained, *result.findings, *missing, *map(str, result.warnings)))


def _heading(text: str) -> str:
    return f"<p><strong>{html.escape(text)}</strong></p>"


def _facts(facts: Mapping[str, object]) -> str:
    """Return a table with a row for each name and value."""
    rows = (
        f'<tr><th scope="row" style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return f"<table><tbody>{''.join(rows)}</tbody></table>"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table. A column whose name starts with ">" is right-aligned, as in the tables of the terminal."""
    sides = ["right" if name.startswith(">") else "left" for name in header]

    def line(tag: str, cells: Iterable[str]) -> str:
        parts = zip(sides, cells, strict=True)
        return "".join(f'<{tag} style="text-align: {side}">{html.escape(cell)}</{tag}>' for side, cell in parts)

    head = line("th", (name.removeprefix(">") for name in header))
    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _sentences(sentences: Iterable[str]) -> str:
    return "".join(f"<p>{html.escape(sentence)}</p>" for sentence in sentences if sentence)


def _drawing(spec: ModelSpec) -> str:
    """Return the drawing of a model as an image, so that it works in notebooks that remove style sheets."""
    if spec.vocab_size is None:
        return _sentences(["The spec has no vocab_size yet, so there is no drawing. A run sets it from its tokenizer."])
    data = base64.b64encode(draw(spec).svg().encode()).decode("ascii")
    alternative = html.escape(f"Drawing of the model {spec.name}")
    return f'<img alt="{alternative}" style="max-width: 100%" src="data:image/svg+xml;base64,{data}">'


def _json(spec: StrictModel) -> str:
    text = html.escape(to_json(spec.model_dump(mode="json"), indent=2))
    return f"<details><summary>JSON</summary><pre>{text}</pre></details>"


def _choices(axis: AxisSpec) -> str:
    """Return the choices of an axis in one line."""
    if axis.choices is None:
        return f"{axis.low} to {axis.high}{', uniform in the logarithm' if axis.log else ''}"
    if axis.choices == "*":
        return "all registered components"
    return ", ".join(choice if isinstance(choice, str) else to_json(choice) for choice in axis.choices)


def _interval(mean: IntervalResult | None) -> str:
    if mean is None:
        return "-"
    return f"{mean.value:.4f}" + ("" if mean.low is None else f" ({mean.low:.4f} to {mean.high:.4f})")
