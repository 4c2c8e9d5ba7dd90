"""The model card of an exported model: the README.md that the Hugging Face Hub shows."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gptzoo.checkpoint.records import read_record
from gptzoo.errors import FolderError
from gptzoo.spec.model import ModelSpec

_METRICS = {"val/loss": "nats per token", "val/perplexity": "perplexity", "val/bits_per_byte": "bits per byte"}


@dataclass(frozen=True)
class TrainingRecord:
    """The run that a checkpoint is from, as far as its folder says it."""

    run: dict[str, Any]  # the content of run.json
    step: int
    metrics: dict[str, Any]  # of this step


def training_record(checkpoint: Path) -> TrainingRecord | None:
    """Return the record of the run that a checkpoint belongs to. None for a model folder outside of a run."""
    run = checkpoint.resolve().parent.parent
    try:
        spec = read_record(run / "run.json")
        step = int(checkpoint.resolve().name.removeprefix("step-"))
    except (FolderError, ValueError):
        return None
    return TrainingRecord(spec, step, _metrics(run / "metrics.jsonl", step))


def model_card(
    spec: ModelSpec,
    *,
    family: str,
    architecture: str,
    n_parameters: int,
    dtype: str,
    has_tokenizer: bool,
    record: TrainingRecord | None,
    averaged: bool,
    notes: Sequence[str],
) -> str:
    """Return the text of the card. Its licence is left to the user."""
    sections = [
        _front_matter(),
        f"# {spec.name}",
        f"A `{family}` language model with {n_parameters:,} parameters: {spec.n_layers} layers, width {spec.d_model}, "
        f"{spec.n_heads} heads, a context of {spec.context_length} tokens and a vocabulary of {spec.vocab_size:,} "
        f"tokens. The weights are in {dtype}. It was exported from gptzoo.",
        "## Use",
        _usage(architecture, has_tokenizer=has_tokenizer),
        "## Training",
        "\n".join(_training(record, averaged=averaged)),
    ]
    if notes:
        sections += ["## Notes", "\n".join(f"- {note}." for note in notes)]
    sections += ["## Specification", f"```json\n{json.dumps(spec.resolved(), indent=2)}\n```"]
    return "\n\n".join(sections) + "\n"


def _front_matter() -> str:
    return "\n".join(
        [
            "---",
            "# Add the licence before you publish the model, such as `license: apache-2.0`.",
            "library_name: transformers",
            "pipeline_tag: text-generation",
            "tags:",
            "- gptzoo",
            "---",
        ]
    )


def _usage(architecture: str, *, has_tokenizer: bool) -> str:
    lines = ["```python", "from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    if not has_tokenizer:
        lines[1] = "from transformers import AutoModelForCausalLM"
    lines.append('model = AutoModelForCausalLM.from_pretrained("PATH")')
    if has_tokenizer:
        lines += [
            'tokenizer = AutoTokenizer.from_pretrained("PATH")',
            'inputs = tokenizer("Once upon a time", return_tensors="pt")',
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))",
        ]
    text = "\n".join([*lines, "```"])
    return f"{text}\n\n`PATH` is this folder or its name on the Hub. The class is `{architecture}`."


def _training(record: TrainingRecord | None, *, averaged: bool) -> Iterator[str]:
    if record is None:
        yield "The folder that the model was exported from does not say how it was trained."
        return
    run, metrics = record.run, record.metrics
    tokens = metrics.get("tokens")
    n_tokens = f", {tokens:,} tokens" if isinstance(tokens, int) else ""
    yield f"- Run `{run.get('name', 'run')}`, step {record.step} of {run.get('steps', '?')}{n_tokens}"
    for field in ("corpus", "tokenizer", "optimizer", "schedule"):
        if (name := _type(run.get(field))) is not None:
            yield f"- {field.capitalize()}: `{name}`"
    for field in ("batch_size", "seed"):
        if field in run:
            yield f"- {field.replace('_', ' ').capitalize()}: {run[field]}"
    if averaged:
        yield "- Weights: their exponential moving average"
        return  # the metrics are those of the trained weights
    values = [f"{metrics[key]:.4f} {unit}" for key, unit in _METRICS.items() if isinstance(metrics.get(key), float)]
    if values:
        yield f"- Loss on held-out text: {', '.join(values)}"


def _type(component: object) -> object:
    """Return the name of a component. Its options may hold paths of this machine, so they are left out."""
    return component.get("type") if isinstance(component, dict) else component


def _metrics(file: Path, step: int) -> dict[str, Any]:
    """Return the metrics of a step, {} if there are none."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for record in records:
        if isinstance(record, dict) and record.get("step") == step:
            found |= record
    return found
