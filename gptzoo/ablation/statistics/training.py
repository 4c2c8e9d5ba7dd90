"""Facts about what was trained: data, size, steps and device. Findings begin with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.statistics.tasks import task_of
from gptzoo.ablation.wording import format_count

_MAX_LABELS = 3


def describe_training(outcome: Outcome, models: str = "") -> str:
    """Return what was trained as a sentence. It leaves out what an older version did not record.

    models: the models in words (default: the number of variants).
    """
    facts = training_facts(outcome, models)
    if "device" in facts:
        facts["device"] = f"device {facts['device']}"
    return f"Trained: {'; '.join(facts.values())}."


def training_facts(outcome: Outcome, models: str = "") -> dict[str, str]:
    """Return the same by subject: "models", "data", "training" and "device", as far as they are known."""
    variants = [v for v in outcome.variants if v.name in {*outcome.baselines, *outcome.compared}]
    facts = {
        "models": f"{models or format_count(len(variants), 'variant')} with "
        f"{_range(v.n_parameters for v in variants)} parameters, {_seeds(outcome, variants)}",
        "data": _data(outcome, variants),
        "training": _length(variants),
        "device": _device(outcome.environment),
    }
    return {subject: fact for subject, fact in facts.items() if fact}


def _seeds(outcome: Outcome, variants: list[Variant]) -> str:
    """Return the number of seeds of each variant, and how many trials have a result if not all have one."""
    n_seeds = [len(outcome.trials_of(variant.name)) for variant in variants]
    n_done = sum(len(outcome.endpoints(variant.name)) for variant in variants)
    done = "" if n_done == sum(n_seeds) else f" ({n_done:,} of {format_count(sum(n_seeds), 'run')} have a result)"
    return f"{_range(n_seeds)} {'seed' if {*n_seeds} == {1} else 'seeds'} each{done}"


def _data(outcome: Outcome, variants: list[Variant]) -> str:
    corpora = [label_of(v.spec["corpus"]) for v in variants if "corpus" in v.spec]
    tokenizers = [label_of(v.spec["tokenizer"]) for v in variants if "tokenizer" in v.spec]
    contexts = {v.spec["model"]["context_length"] for v in variants if "context_length" in v.spec.get("model", {})}
    parts = []
    if outcome.task_axes:
        parts.append(f"tasks {_labels([task_of(outcome, variant) for variant in variants])}")
    elif corpora:
        parts.append(f"text {_labels(corpora)}")
    if tokenizers:
        parts.append(f"tokenizer {_labels(tokenizers)}")
    if contexts:
        parts.append(f"contexts of {_range(contexts)} tokens")
    return ", ".join(parts)


def _length(variants: list[Variant]) -> str:
    steps = [variant.steps for variant in variants if variant.steps is not None]
    tokens = [variant.tokens for variant in variants if variant.tokens is not None]
    if not steps or not tokens:
        return ""
    return f"{_range(steps)} {'step' if {*steps} == {1} else 'steps'}, {_range(tokens)} tokens in each run"


def _device(environment: Mapping[str, Any]) -> str:
    device, threads = environment.get("device"), environment.get("threads")
    if not device:
        return ""
    if not str(device).startswith("cpu") or not isinstance(threads, int):
        return str(device)
    return f"{device} with {format_count(threads, 'thread')}"


def _labels(labels: list[str]) -> str:
    distinct = list(dict.fromkeys(labels))
    n_more = len(distinct) - _MAX_LABELS
    return " / ".join(distinct[:_MAX_LABELS]) + (f" and {n_more} more" if n_more > 0 else "")


def _range(numbers: Iterable[int]) -> str:
    low, high = min(values := [*numbers]), max(values)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
