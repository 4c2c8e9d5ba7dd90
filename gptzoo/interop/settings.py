"""The settings of a config.json, read in such a way that no setting is overlooked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from gptzoo.errors import Problem, SpecError

T = TypeVar("T")

_NAMES = """
    _attn_implementation _attn_implementation_autoset _attn_implementation_internal _commit_hash
    _experts_implementation _flash_attn_2_enabled _num_labels architectures attention_softmax_in_fp32
    attn_implementation auto_map cache_implementation chunk_size_feed_forward dtype experts_implementation
    finetuning_task gradient_checkpointing id2label initializer_range is_decoder label2id max_sequence_length
    model_max_length
    model_type num_labels output_attentions output_hidden_states output_past output_router_logits pretraining_tp
    prefix problem_type return_dict router_aux_loss_coef scale_attention_softmax_in_fp32 task_specific_params
    tie_encoder_decoder tokenizer_class torch_dtype torchscript transformers.js_config unsloth_fixed use_bfloat16
    use_cache use_flash_attention_2 use_flash_attn

    bad_words_ids begin_suppress_tokens diversity_penalty do_sample early_stopping encoder_no_repeat_ngram_size
    exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id length_penalty max_length max_new_tokens
    min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences output_scores remove_invalid_values
    repetition_penalty return_dict_in_generate suppress_tokens temperature top_k top_p typical_p
"""
NO_EFFECT = frozenset(_NAMES.split())
"""Settings of all transformers models that do not change the logits: bookkeeping, special tokens, sampling."""

_NO_EFFECT = re.compile(r".*_token_(id|ids|index)|(.*_)?version|(.*_)?name_or_path")
"""Names of tokens, versions and places, whatever they belong to."""

NEUTRAL_VALUES: Mapping[str, Any] = {
    "attention_bias": False,
    "lm_head_bias": False,
    "mlp_bias": False,
    "rope_interleaved": False,
    "rotary": True,
    "scale_attn_weights": True,
    "use_mrope": False,
    "use_sliding_window": False,
    "add_cross_attention": False,
    "cross_attention_hidden_size": None,
    "is_encoder_decoder": False,
    "per_layer_config": None,
    "pruned_heads": {},
    "quantization_config": None,
}
"""Settings with the only value that does not change the logits, in families that do not read them."""

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
"""gptzoo activations by their names in transformers."""


class Settings:
    """The settings of one config.json, and the problems found in them.

    Each method that reads a setting takes the default that transformers uses for it. A wrong value is recorded as a
    problem and the default is returned, so that all problems are reported at once. `require_all_read` raises them, and
    rejects every setting that was not read.
    """

    def __init__(self, values: Mapping[str, Any], source: str = "config.json", path: str = "$"):
        self._values = values
        self._source = source
        self._path = path
        self._read: set[str] = set()
        self._problems: list[Problem] = []

    def set_defaults(self, defaults: Mapping[str, Any]) -> None:
        """Set the values that missing settings have."""
        self._values = {**defaults, **self._values}

    @property
    def read_keys(self) -> frozenset[str]:
        """The names of the settings that were read."""
        return frozenset(self._read)

    @property
    def problem_paths(self) -> tuple[str, ...]:
        """The paths of the settings in which problems were found, such as `$.rope_parameters.factor`."""
        return tuple(problem.path for problem in self._problems)

    def value(self, key: str, default: object = None) -> Any:  # noqa: ANN401  any JSON value
        """Return a setting of any type, without checking it."""
        self._read.add(key)
        return self._values.get(key, default)

    def count(self, key: str, default: T) -> int | T:
        """Return a whole number above 0. Null is allowed only if the default is None."""
        count: int | T = self._checked(
            key, default, "a whole number above 0", lambda value: type(value) is int and value > 0
        )
        return count

    def number(self, key: str, default: T) -> float | T:
        """Return a number. Null is allowed only if the default is None."""
        number = self._checked(key, default, "a number", lambda value: type(value) in (int, float))
        return float(number) if type(number) is int else number

    def optional_number(self, key: str, default: float | None) -> float | None:
        """Return a number, or None for null. The default is that of a missing setting."""
        return self.number(key, None) if key in self._values else default

    def required_number(self, key: str) -> float:
        """Return a number that has no default."""
        if key not in self._values:
            self._add_problem(key, "is required")
            return 1.0
        return self.number(key, 1.0)

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        flag: bool = self._checked(key, default, "true or false", lambda value: isinstance(value, bool))
        return flag

    def translate(self, key: str, default: str, meanings: Mapping[str, T]) -> T:
        """Return the entry of `meanings` for the name in a setting. Reject a name that has no entry."""
        name = self.value(key, default)
        if isinstance(name, str) and name in meanings:
            return meanings[name]
        self.reject(key, hint=f"  (known: {', '.join(sorted(meanings))})")
        return meanings[default]

    def activation(self, key: str, default: str) -> Mapping[str, str]:
        """Return the activation, as in a spec, for the name that transformers has for it."""
        return self.translate(key, default, ACTIVATIONS)

    def nested(self, key: str) -> Settings:
        """Return the settings of a nested object; empty settings if it is null or missing.

        Unread settings in it are not rejected, unless `reject_unread` is called on the result.
        """
        values = self.value(key)
        inner = Settings(values if isinstance(values, dict) else {}, self._source, f"{self._path}.{key}")
        inner._problems = self._problems
        if not isinstance(values, dict | None):
            self._add_problem(key, f"expected an object or null, got {json.dumps(values)}")
        return inner

    def require(self, key: str, *allowed: object) -> None:
        """Reject a setting whose value is not one of `allowed`. The first of them is the default."""
        if self.value(key, allowed[0]) not in allowed:
            self.reject(key, hint=f"; only {' or '.join(json.dumps(value) for value in allowed)} is supported")

    def reject(self, key: str, hint: str = "") -> None:
        """Record that a gptzoo spec cannot express the value of a setting."""
        self._read.add(key)
        self._add_problem(key, f"a gptzoo spec cannot express {json.dumps(self._values.get(key))}{hint}")

    def require_all_read(self, no_effect: Iterable[str] = ()) -> None:
        """Raise SpecError if there are problems, or settings that were not read and may change the logits.

        no_effect: names of settings that do not change the logits, besides those in `NO_EFFECT`.
        """
        self.reject_unread(NO_EFFECT.union(no_effect))
        if self._problems:
            raise SpecError(sorted(self._problems, key=lambda problem: problem.path))

    def reject_unread(self, no_effect: Iterable[str] = ()) -> None:
        """Record a problem for each setting that was not read and is not in `no_effect`.

        An unknown setting that is null is one that is not set.
        """
        for key in self._values.keys() - self._read - set(no_effect):
            if self._values[key] is None or _NO_EFFECT.fullmatch(key):
                continue
            if key in NEUTRAL_VALUES:
                self.require(key, NEUTRAL_VALUES[key])
            else:
                self._add_problem(
                    key, "unknown setting, which may change the model. If it does not, remove it from the file."
                )

    def _checked(self, key: str, default: T, expected: str, is_valid: Callable[[object], bool]) -> Any:  # noqa: ANN401  any JSON value
        value = self.value(key, default)
        if is_valid(value) or (value is None and default is None):
            return value
        self._add_problem(key, f"expected {expected}, got {json.dumps(value)}")
        return default

    def _add_problem(self, key: str, reason: str) -> None:
        self._problems.append(Problem(self._source, f"{self._path}.{key}", reason))
