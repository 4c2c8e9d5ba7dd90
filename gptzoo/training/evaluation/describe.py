"""The result of an evaluation as short texts, for the terminal and for notebooks."""

from __future__ import annotations

from gptzoo.training.evaluation.evaluate import Evaluation
from gptzoo.utils.proportion import Proportion

_LARGE_FIRST_TOKEN = 0.002  # of the bytes of the text


def describe_evaluation(evaluation: Evaluation) -> dict[str, str]:
    """Return the numbers of an evaluation by name: loss, metrics, evaluation sets, and the text."""
    likelihood = evaluation.likelihood
    texts = {
        "loss": f"{likelihood.loss:.4f} nats per token",
        "perplexity": f"{likelihood.perplexity:.4g}",
        "bits per byte": f"{likelihood.bits_per_byte:.4f}",
    }
    for name, proportion in evaluation.metrics.items():
        texts[name] = f"{_format(proportion)}{_beside_chance(proportion, evaluation.chance.get(name))}"
    for set_name, measurement in evaluation.sets.items():
        numbers = [f"loss {measurement.likelihood.loss:.4f}"]
        numbers += [f"{name} {_format(proportion)}" for name, proportion in measurement.metrics.items()]
        texts[set_name] = ", ".join(numbers)
    texts["tokens"] = f"{likelihood.n_tokens:,} ({likelihood.n_bytes:,} bytes)"
    texts["data"] = evaluation.data[:16]
    if evaluation.text is not None:
        texts["text"] = evaluation.text[:16]
    if (share := evaluation.first_token_bytes / likelihood.n_bytes) >= _LARGE_FIRST_TOKEN:
        texts["note"] = (
            f"the text is short: its first token, {share:.1%} of the bytes, is never predicted, which lowers the bits "
            "per byte"
        )
    return texts


def _format(proportion: Proportion) -> str:
    """Return a proportion in percent with its 95% interval."""
    low, high = proportion.interval()
    return f"{proportion.value:.2%} ({low:.2%} to {high:.2%}, {proportion.hits:,} of {proportion.n:,})"


def _beside_chance(proportion: Proportion, chance: float | None) -> str:
    """Say whether a proportion differs from the expected one of the best predictor without context."""
    if chance is None:
        return ""
    low, high = proportion.interval()
    side = "above" if low > chance else "below" if high < chance else "not distinguishable from"
    return f", {side} chance, {chance:.2%}"
