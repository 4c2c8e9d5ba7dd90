"""The generation options of the harness as a `SamplingSpec`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gptzoo.errors import InputError
from gptzoo.sampling.spec import SamplingSpec

_PROCESSORS = {"top_k": "k", "top_p": "p", "min_p": "p"}  # option -> field of the logits processor of that name
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "top_k": (None, 0, -1),
    "top_p": (None, 1),
    "min_p": (None, 0),
    "num_beams": (None, 1),
    "num_return_sequences": (None, 1),
    "repetition_penalty": (None, 1),
    "use_cache": (None, True),
}
_KNOWN = ("do_sample", "temperature", "top_k", "top_p", "min_p", "min_tokens", "min_new_tokens", "seed")


def sampling_spec(
    options: Mapping[str, Any], max_new_tokens: int, stop_texts: Sequence[str], stop_tokens: Sequence[int]
) -> SamplingSpec:
    """Translate `generation_kwargs` of a task. Raises InputError for an option that changes texts and is not known."""
    unknown = [name for name in options if name not in _KNOWN and options[name] not in _NEUTRAL.get(name, ())]
    if unknown:
        raise InputError(
            f"generation_kwargs: {min(unknown)} is not supported. Remove it from the task, or use one of: "
            f"{', '.join(_KNOWN)}, until, max_gen_toks."
        )
    temperature = float(options.get("temperature", 1.0)) if options.get("do_sample") else 0.0
    processors: list[dict[str, Any]] = [{"type": "temperature", "value": temperature}]
    if temperature:
        processors += [
            {"type": name, field: options[name]}
            for name, field in _PROCESSORS.items()
            if options.get(name) not in _NEUTRAL[name]
        ]
    return SamplingSpec.model_validate(
        {
            "max_new_tokens": max_new_tokens,
            "min_new_tokens": int(options.get("min_new_tokens") or options.get("min_tokens") or 0),
            "processors": processors,
            "stop_texts": stop_texts,
            "stop_tokens": stop_tokens,
            "seed": int(options.get("seed") or 1),
        }
    )
