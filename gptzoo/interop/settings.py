"""The settings of a foreign config.json, read so that none is overlooked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from gptzoo.errors import Problem, SpecError

T = TypeVar("T")

_NAMES = """
    _attn_implementation_autoset _commit_hash _name_or_path _num_labels architectures attn_implementation
    chunk_size_feed_forward dtype finetuning_task gradient_checkpointing id2label label2id model_type name_or_path
    num_labels output_attentions output_hidden_states output_past problem_type return_dict task_specific_params
    tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers.js_config transformers_version use_bfloat16
    use_cache

    bos_token_id decoder_start_token_id eos_token_id pad_token_id prefix sep_token_id

    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length max_new_tokens
    min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values
    repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
"""
NO_EFFECT = frozenset(_NAMES.split())
"""Settings of any model in transformers that leave logits as they are: bookkeeping, special tokens, sampling."""

NEUTRAL: Mapping[str, Any] = {
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_encoder_decoder": False,
    "per_layer_config": None,
    "pruned_heads": {},
    "quantization_config": None,
}
"""Settings of any model in transformers that leave logits as they are with this value alone."""

ACTIVATIONS: Mapping[str, Mapping[str, str]] = {
    "gelu": {"type": "gelu", "approximate": "none"},
    "gelu_fast": {"type": "gelu", "approximate": "tanh"},
    "gelu_new": {"type": "gelu", "approximate": "tanh"},
    "gelu_python": {"type": "gelu", "approximate": "none"},
    "gelu_pytorch_tanh": {"type": "gelu", "approximate": "tanh"},
    "relu": {"type": "relu"},
    "silu": {"type": "silu"},
    "swish": {"type": "silu"},
}
"""The activations that transformers and gptzoo share, by the names that they have in transformers."""


class Settings:
    """The settings of one config.json.

    Every look at a setting is remembered, and what is wrong with it is kept: the look then returns the default, so that
    all mistakes can be told at once. `close` raises them, and refuses every setting that nobody looked at.
    A default is the value that the other library takes for a setting left out.
    """

    def __init__(self, values: Mapping[str, Any], source: str = "config.json", path: str = "$"):
        self._values = values
        self._source = source
        self._path = path
        self._seen: set[str] = set()
        self._problems: list[Problem] = []

    def value(self, key: str, default: Any = None) -> Any:
        """A setting as it stands in the JSON."""
        self._seen.add(key)
        return self._values.get(key, default)

    def count(self, key: str, default: T) -> int | T:
        """A whole number above zero; null only where the default is None."""
        return self._checked(key, default, "a whole number above 0", lambda v: type(v) is int and v > 0)

    def number(self, key: str, default: T) -> float | T:
        """A number; null only where the default is None."""
        number = self._checked(key, default, "a number", lambda v: type(v) in (int, float))
        return float(number) if type(number) is int else number

    def flag(self, key: str, default: bool) -> bool:
        return self._checked(key, default, "true or false", lambda v: isinstance(v, bool))

    def one_of(self, key: str, default: str, meanings: Mapping[str, T]) -> T:
        """What the name in a setting means; a name without a meaning is refused."""
        name = self.value(key, default)
        if isinstance(name, str) and name in meanings:
            return meanings[name]
        self.refuse(key, hint=f"  (known: {', '.join(sorted(meanings))})")
        return meanings[default]

    def within(self, key: str) -> Settings:
        """The settings of an object inside of this one; none where it is null or left out. It needs no `close`."""
        values = self.value(key)
        inner = Settings(values if isinstance(values, dict) else {}, self._source, f"{self._path}.{key}")
        inner._problems = self._problems
        if not isinstance(values, dict | None):
            self._problem(key, f"should be an object or null, not {json.dumps(values)}")
        return inner

    def only(self, key: str, *allowed: Any) -> None:
        """Refuse a setting that is there with any value but these."""
        if self.value(key, allowed[0]) not in allowed:
            self.refuse(key, hint=f"; only {' or '.join(json.dumps(value) for value in allowed)} is")

    def refuse(self, key: str, hint: str = "") -> None:
        """Refuse the value of a setting, because no spec describes such a model."""
        value = json.dumps(self._values.get(key))
        value = value if len(value) <= 120 else value[:117] + "..."
        self._seen.add(key)
        self._problem(key, f"{value} is not something that a gptzoo spec can say{hint}")

    def close(self, no_effect: Iterable[str] = ()) -> None:
        """Raise SpecError with all that was wrong, and with each setting that was neither read nor has no effect."""
        for key in self._values.keys() - self._seen - NO_EFFECT - set(no_effect):
            if key in NEUTRAL:
                self.only(key, NEUTRAL[key])
            else:
                self._problem(key, "is not known, so it may change the model; if it does not, remove it from the file")
        if self._problems:
            raise SpecError(sorted(self._problems, key=lambda problem: problem.path))

    def _checked(self, key: str, default: Any, wanted: str, is_right: Any) -> Any:
        value = self.value(key, default)
        if is_right(value) or (value is None and default is None):
            return value
        self._problem(key, f"should be {wanted}, not {json.dumps(value)}")
        return default

    def _problem(self, key: str, reason: str) -> None:
        self._problems.append(Problem(self._source, f"{self._path}.{key}", reason))
