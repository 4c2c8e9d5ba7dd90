"""The rule by which losses of two trials may be subtracted: the same held-out text, and the same tokens of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PER_BYTE = "val/bits_per_byte"


def is_validation_metric(metric: str) -> bool:
    """Return True for metrics that are measured on held-out text."""
    return metric.startswith("val/")


def is_per_token(metric: str) -> bool:
    """Return True for losses per token, which depend on the tokenizer: a loss, a perplexity, but no bits per byte."""
    return metric.startswith(("val/", "train/")) and metric != _PER_BYTE


def why_not_comparable(
    metric: str, record: Mapping[str, Any] | None, reference: Mapping[str, Any] | None
) -> str | None:
    """Return why the metric of a trial and that of a reference trial cannot be subtracted, or None if they can.

    The records are those of the held-out text in environment.json. An older version wrote none: then nothing is known.
    """
    if not record or not reference or not is_validation_metric(metric):
        return None
    if record.get("text") != reference.get("text"):
        return "its held-out text is another one than the baseline's"
    if record.get("bytes") != reference.get("bytes"):
        return "it predicts another part of the held-out text than the baseline"
    if is_per_token(metric) and record.get("ids") != reference.get("ids"):
        return f"its tokens of the held-out text are not the baseline's. Compare {_PER_BYTE} instead of {metric}"
    return None
