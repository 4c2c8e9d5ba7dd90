"""`Request`, the input of the engine, and the check that a model can serve it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from gptzoo.errors import InputError, UserNote
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.spec import SamplingSpec


@dataclass(frozen=True)
class Request:
    """A prompt to continue `n_samples` times.

    The tokens depend only on the prompt, the spec, `n_draft_tokens` and the number of the sample. They do not depend on
    other requests in the batch.
    """

    prompt_ids: Sequence[int]
    spec: SamplingSpec = field(default_factory=SamplingSpec)
    id: Hashable = None
    """Identifier that events refer to. Default: assigned by the engine."""
    n_samples: int = 1
    first_sample: int = 0
    """Number of the first sample. The random stream of a sample is derived from the seed and its number."""
    n_top_logprobs: int = 0
    """Number of top log-probabilities that each event reports."""
    n_draft_tokens: int = 0
    """Maximum number of tokens that the engine's draft model proposes per step. 0 turns speculation off."""


def check_prompt(model: Architecture, prompt_ids: Sequence[int], spec: SamplingSpec) -> None:
    """Raise InputError unless the model can read the prompt and generate `spec.max_new_tokens` tokens after it.

    Issues a UserNote if they may exceed the context that the model was trained on.
    """
    if not prompt_ids:
        raise InputError("the prompt is empty. Give at least one token.")
    vocab_size = model.spec.dims.vocab_size
    if unknown := [token for token in prompt_ids if not 0 <= token < vocab_size]:
        raise InputError(f"token id {unknown[0]} is outside the model's vocabulary of {vocab_size} tokens")
    remaining = model.remaining_length(len(prompt_ids))
    if remaining is not None and spec.max_new_tokens > remaining:
        names = ", ".join(sorted({config.type for config in model.spec.per_layer("positional")}))
        raise InputError(
            f"a prompt of {len(prompt_ids)} tokens and {spec.max_new_tokens} new tokens exceed the maximum length "
            f"{model.max_length} of this model (positional: {names}). Ask for at most {remaining} new tokens."
        )
    if spec.max_new_tokens > model.remaining_context(len(prompt_ids)):
        # The text is the same for all prompts, so that Python shows it once.
        warnings.warn(
            f"the prompt and the new tokens may exceed the {model.spec.context_length} tokens that this model was "
            "trained on at a time (context_length); text beyond them may be poor. To stay within them, generate fewer "
            "tokens (max_new_tokens) or shorten the prompt",
            UserNote,
            stacklevel=1,
        )
