"""The check for logits that have no probabilities: with NaN or +inf, or with -inf alone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

CHECK_WEIGHTS = "Check the weights of the checkpoint for values that are not finite."


def are_bad(logits: Tensor) -> Tensor:
    """Map logits (..., V) to a bool mask (...) of the rows that have no probabilities."""
    return ~logits.amax(dim=-1).isfinite()  # the largest logit is NaN if any is


def describe_bad_logits(logits: Tensor) -> str:
    """Return what is wrong with a row of logits (V,)."""
    return "NaN" if logits.isnan().any() else "+inf" if logits.isposinf().any() else "-inf alone"


def find_first_bad(n_tokens: int, last_logits: Callable[[int], Tensor]) -> tuple[int, str]:
    """Return after how many of `n_tokens` tokens the logits are bad for the first time, and what is wrong with them.

    last_logits: returns the logits (V,) after the first n tokens, by a forward pass of these tokens alone. A value that
    is not finite spreads to the tokens before it, because attention multiplies it by a weight of 0. So the logits of
    one pass over all tokens do not show where it comes from.
    """
    low, high = 1, n_tokens
    while low < high:
        middle = (low + high) // 2
        if bool(are_bad(last_logits(middle))):
            high = middle
        else:
            low = middle + 1
    return low, describe_bad_logits(last_logits(low))
