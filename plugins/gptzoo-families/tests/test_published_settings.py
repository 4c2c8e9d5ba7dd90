"""Settings of published config.json files that change nothing are no reason to refuse a checkpoint.

The extra settings are those of the files on the Hugging Face Hub that a family's configuration class of transformers
ignores, or has at its default.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transformers
from gptzoo_families.table import update
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

import gptzoo
from gptzoo import registry
from gptzoo.interop.settings import Settings

GENERAL: dict[str, Any] = {
    "_attn_implementation": "sdpa",
    "_commit_hash": "abc",
    "_flash_attn_2_enabled": True,
    "_model_name_or_path": "/somewhere/else",
    "_name_or_path": "org/name",
    "architectures": ["ForCausalLM"],
    "auto_map": {"AutoConfig": "configuration.Config"},
    "bad_words_ids": None,
    "boi_token_index": 5,
    "cache_implementation": "hybrid",
    "cls_token_id": 1,
    "eot_token_id": [1, 2],
    "image_token_id": 9,
    "mask_token_id": 4,
    "model_max_length": 4096,
    "rope_scaling": None,
    "tokenizer_class": "PreTrainedTokenizerFast",
    "torch_dtype": "bfloat16",
    "transformers.js_config": {"dtype": "q4"},
    "transformers_version": "4.20.0",
    "unheard_of_but_null": None,
    "unk_token_id": 0,
    "unsloth_fixed": True,
    "unsloth_version": "2025.1",
    "use_flash_attn": True,
}
"""Extra settings in files of any family."""

EXTRAS: dict[str, dict[str, Any]] = {
    "bloom": {
        "attention_softmax_in_fp32": True,
        "bias_dropout_fusion": True,
        "masked_softmax_fusion": True,
        "offset_alibi": 100,
        "pretraining_tp": 4,
        "seq_length": 2048,
        "skip_bias_add": True,
        "skip_bias_add_qkv": False,
        "slow_but_exact": False,
    },
    "cohere": {"pretraining_tp": 1, "attention_bias": False},
    "deepseek_v3": {"aux_loss_alpha": 0.001, "ep_size": 1, "num_nextn_predict_layers": 1, "seq_aux": True},
    "gemma": {"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh"},
    "gpt2": {"gradient_checkpointing": False, "n_ctx": 1024, "summary_type": "cls_index"},
    "gpt_oss": {"experts_per_token": 4, "initial_context_length": 4096, "output_router_logits": False},
    "gptj": {
        "gradient_checkpointing": False,
        "rotary": True,
        "scale_attn_weights": True,
        "summary_type": "cls_index",
    },
    "llama": {
        "is_llama_config": True,
        "max_sequence_length": 2048,
        "pretraining_tp": 1,
        "rope_interleaved": False,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    "mistral": {"attention_bias": False, "mlp_bias": False, "pretraining_tp": 1},
    "opt": {"_remove_final_layer_norm": False, "activation_dropout": 0.0, "layerdrop": 0.0, "prefix": "</s>"},
    "phi3": {
        "attention_bias": False,
        "full_attn_mod": 1,
        "interpolate_factor": 1,
        "lm_head_bias": False,
        "mlp_bias": False,
    },
    "qwen2": {"attention_bias": False, "mlp_bias": False, "use_mrope": False},
    "qwen3": {"mlp_bias": False, "use_mrope": False},
    "starcoder2": {
        "activation_function": "gelu_pytorch_tanh",
        "attention_softmax_in_fp32": True,
        "layer_norm_epsilon": 1e-05,
        "mlp_type": "default",
        "norm_type": "layer_norm",
        "scale_attention_softmax_in_fp32": True,
        "scale_attn_weights": True,
    },
}
"""Extra settings by family."""

IMPORTERS = registry.current().of_kind("importer")


def read(name: str, values: dict[str, Any]) -> gptzoo.ModelSpec:
    importer: Any = IMPORTERS[name].Config().build()
    settings = Settings(values)
    spec = importer.spec(settings)
    settings.require_all_read(importer.no_effect)
    return gptzoo.load_model_spec(spec)


def problems(name: str, values: dict[str, Any]) -> list[str]:
    try:
        read(name, values)
    except gptzoo.SpecError as error:
        return [problem.path for problem in error.problems]
    return []


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_settings_without_effect_are_no_reason_to_refuse(name: str) -> None:
    default = CONFIG_MAPPING[name]().to_dict()
    extras = {key: value for key, value in (GENERAL | EXTRAS.get(name, {})).items() if default.get(key) is None}
    assert problems(name, {**default, **extras}) == []
    assert read(name, {**default, **extras}) == read(name, default)


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_every_argument_of_the_configuration_class_is_known_at_its_default(name: str) -> None:
    """Also those that `to_dict` leaves out, and those of the base class."""
    config_class = CONFIG_MAPPING[name]
    values = CONFIG_MAPPING[name]().to_dict()
    for base in (config_class, transformers.PreTrainedConfig, transformers.GenerationConfig):
        for key, default in _defaults(base):
            if key not in values and not isinstance(default, type):
                values[key] = default
    assert problems(name, values) == []


def _defaults(config_class: type) -> Iterator[tuple[str, Any]]:
    for parameter in inspect.signature(config_class.__init__).parameters.values():
        is_json = isinstance(parameter.default, str | int | float | bool | list | dict | None)
        if parameter.name not in ("self", "kwargs") and parameter.default is not parameter.empty and is_json:
            yield parameter.name, parameter.default


@pytest.mark.parametrize("name", sorted(IMPORTERS))
def test_a_setting_that_may_change_the_model_is_still_refused_by_its_key_uncut(name: str) -> None:
    default = CONFIG_MAPPING[name]().to_dict()
    assert problems(name, {**default, "unheard_of": 3}) == ["$.unheard_of"]
    long = {f"entry_{i}": "x" * 20 for i in range(20)}
    with pytest.raises(gptzoo.SpecError) as caught:
        read(name, {**default, "quantization_config": long})
    assert "entry_19" in str(caught.value)
    assert [problem.path for problem in caught.value.problems] == ["$.quantization_config"]


@pytest.mark.parametrize("page", ["plugins/gptzoo-families/README.md", "docs/importing.md"])
def test_the_table_of_families_is_current(page: str) -> None:
    text = (Path(__file__).parents[3] / page).read_text(encoding="utf-8")
    assert update(text) == text, (
        "run python -m gptzoo_families.table plugins/gptzoo-families/README.md docs/importing.md"
    )
    assert all(f"`{name}`" in text for name in IMPORTERS)
