"""`TokenEvent`, the output of every decoding loop, and the reasons for which a sequence is finished."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

FinishReason = Literal["stop_token", "stop_text", "finished", "length"]
"""Why a sequence ends. "finished" means that a logits processor, such as a grammar, allows no further token."""


class TokenEvent(NamedTuple):
    """One event of a sequence: a generated token, the end of the sequence, or both; or a failure."""

    token: int | None
    """The generated token. None if the sequence ends without one. A stop token is not part of the generated text."""
    log_probability: float = 0.0
    """Log-probability of the token in nats, under the model itself, before any logits processor."""
    finish_reason: FinishReason | None = None
    """Why the sequence ends with this event, or None if it continues."""
    top_logprobs: Mapping[int, float] = {}
    """The most likely tokens and their log-probabilities in nats, if the request asks for them."""
    request_id: Any = None
    """The id of the request, which is any hashable value."""
    sample: int = 0
    """Number of the sample within its request, from 0."""
    error: Exception | None = None
    """The failure that ended the sequence."""
