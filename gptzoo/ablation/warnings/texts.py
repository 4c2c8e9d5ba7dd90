"""Warnings about texts: windows, tokenizers, training text and held-out text that differ between variants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gptzoo.ablation.design.axes import label_of
from gptzoo.ablation.records.outcome import Outcome, Variant
from gptzoo.ablation.records.same_text import is_per_token, is_validation_metric
from gptzoo.ablation.records.warning import ComparisonWarning
from gptzoo.ablation.wording import listed
from gptzoo.data.held_out import Overlap


def unequal_windows(variants: Sequence[Variant], baseline: str, metric: str) -> Iterator[ComparisonWarning]:
    """Yield a warning if variants are evaluated in windows of different lengths."""
    lengths = {v.name: v.spec.get("model", {}).get("context_length") for v in variants}
    reference = lengths.get(baseline)
    others = [name for name, length in lengths.items() if length != reference]
    if others and is_validation_metric(metric):
        parts = listed([f"{lengths[name]} tokens for {name}" for name in others])
        yield ComparisonWarning(
            "context length",
            "The variants have different context lengths, and each is evaluated in windows of its own length: "
            f"{reference} tokens for {baseline}, {parts}. A longer window gives a prediction more context, which "
            f"alone improves {metric}. `gptzoo eval --window` measures all in windows of one length.",
            others,
        )


def unequal_tokenizers(variants: Sequence[Variant], baseline: str, metric: str) -> Iterator[ComparisonWarning]:
    """Yield a warning if variants have different tokenizers."""
    labels = {variant.name: label_of(variant.spec.get("tokenizer")) for variant in variants}
    reference = labels.get(baseline)
    others = [name for name, label in labels.items() if label != reference]
    if not others:
        return
    parts = listed([f"{labels[name]} of {name}" for name in others])
    consequence = (
        f"{metric} is per token, and their tokens are not the same, so its differences mean nothing. Compare "
        "val/bits_per_byte."
        if is_per_token(metric)
        else f"{metric} does not depend on the tokenizer, but a token is another length of text for each of them: "
        "with equal context_length and equal numbers of tokens, one sees more text in a window, and is trained on more "
        "text."
    )
    text = f"The variants have different tokenizers: {reference} of {baseline}, {parts}. {consequence}"
    yield ComparisonWarning("tokenizer", text, others)


def contaminated_texts(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning if held-out text was also trained on."""
    names_of: dict[str, set[str]] = {}
    for trial in outcome.trials:
        overlap = Overlap.from_record(trial.data.get("overlap"))
        if overlap is not None and overlap.is_high:
            names_of.setdefault(overlap.describe(), set()).add(trial.variant)
    for text, names in sorted(names_of.items(), key=lambda item: min(item[1])):
        message = f"{listed(sorted(names))}: measured on text that is partly trained on: {text}."
        yield ComparisonWarning("text", message, sorted(names))


def changed_texts(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning for each variant whose trials were trained on different text."""
    for variant in outcome.variants:
        if len({trial.data["data"] for trial in outcome.trials_of(variant.name) if "data" in trial.data}) > 1:
            text = f"{variant.name}: its trials were trained on different text, so their mean mixes data sets."
            yield ComparisonWarning("text", text, [variant.name])


def unknown_texts(outcome: Outcome) -> Iterator[ComparisonWarning]:
    """Yield a warning if an older version trained variants with different corpora and did not record their texts."""
    if not is_validation_metric(outcome.metric):
        return
    ended = [trial for trial in outcome.trials if trial.state == "done" and trial.rows]
    if outcome.metric == "val/bits_per_byte" and len({bool(trial.data.get("held_out")) for trial in ended}) > 1:
        yield ComparisonWarning(
            "text",
            "Some trials were trained by an older version of gptzoo, whose bits per byte also counted separators as "
            "text: do not compare them with the others. `gptzoo eval` gives the current figure of a trial.",
        )
    corpora = {variant.name: variant.spec.get("corpus") for variant in outcome.variants}
    for name, corpus in corpora.items():
        is_unknown = any(trial.rows and not trial.data.get("held_out") for trial in outcome.trials_of(name))
        reference = outcome.reference_of(name)
        if is_unknown and corpus != corpora.get(reference):
            yield ComparisonWarning(
                "text",
                f"{name}: its corpus is not that of {reference}, and an older version of gptzoo did not record "
                "the held-out texts. If they differ, their losses do not compare.",
                [name],
            )
