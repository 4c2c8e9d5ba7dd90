"""Llama checkpoints give the same logits as in transformers, or an error that names the unsupported setting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, LlamaModel

import gptzoo
from gptzoo.errors import FolderError, SpecError
from gptzoo.interop.llama import LlamaImporter
from gptzoo.interop.settings import Settings

Save = Callable[..., Any]
TINY = {
    "vocab_size": 61,
    "max_position_embeddings": 32,
    "hidden_size": 32,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def tiny(**options: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**{**TINY, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_key_value_heads": 1},
        {"num_key_value_heads": 4},
        {"attention_bias": True},
        {"mlp_bias": True},
        {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True},
        {"tie_word_embeddings": True},
        {"hidden_act": "gelu_pytorch_tanh"},
        {"hidden_act": "relu"},
        {"rms_norm_eps": 0.1},
        {"head_dim": 12},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 20.0}},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 20.0, "factor": 4.0}},
        {
            "rope_parameters": {
                "rope_type": "llama3",
                "rope_theta": 500.0,
                "factor": 8.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8,
            }
        },
        {
            "rope_parameters": {
                "rope_type": "yarn",
                "rope_theta": 500.0,
                "factor": 4.0,
                "original_max_position_embeddings": 8,
            }
        },
    ],
    ids=str,
)
def test_logits_equal_those_of_transformers(save: Save, options: dict[str, Any]) -> None:
    checkpoint = save(tiny(**options))
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_gradients_equal_those_of_transformers(save: Save) -> None:
    theirs = tiny().eval()
    checkpoint = save(theirs)
    checkpoint.import_()
    ours = gptzoo.load(checkpoint.out).model
    tokens = torch.randint(0, 61, (2, 12), generator=torch.Generator().manual_seed(0))
    theirs(tokens, labels=tokens).loss.backward()
    ours(tokens[:, :-1], tokens[:, 1:])[1].backward()
    attention, mlp = theirs.model.layers[1].self_attn, theirs.model.layers[1].mlp
    block = ours.blocks[1]
    qkv = [linear.weight.grad for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
    for ours_, expected in [
        (block.attention.qkv.weight.grad, torch.cat(qkv)),
        (block.ffn.gate_up.weight.grad, torch.cat([mlp.gate_proj.weight.grad, mlp.up_proj.weight.grad])),
        (ours.head.weight.grad, theirs.lm_head.weight.grad),
        (ours.exit.weight.grad, theirs.model.norm.weight.grad),
    ]:
        assert expected.abs().max() > 1e-3
        assert torch.allclose(ours_, expected, rtol=0, atol=1e-5)


def test_a_sharded_checkpoint_is_imported(save: Save) -> None:
    checkpoint = save(tiny(), max_shard_size="16kB")
    assert len(list(checkpoint.folder.glob("model-*.safetensors"))) > 2
    checkpoint.import_()
    checkpoint.assert_same_logits()


@pytest.mark.parametrize(
    "older",
    [
        {"rope_theta": 20.0, "rope_scaling": None},
        {"rope_theta": 20},
        {"rope_theta": 20.0, "rope_scaling": {"type": "default"}},
        {"rope_theta": 20.0, "rope_parameters": {"rope_type": "default", "rope_theta": 20.0}},
    ],
    ids=str,
)
def test_the_rotary_base_is_read_from_the_settings_of_older_versions(save: Save, older: dict[str, Any]) -> None:
    model = tiny(rope_parameters={"rope_type": "default", "rope_theta": 20.0})
    checkpoint = save(model)
    checkpoint.edit_config(older, without=() if "rope_parameters" in older else ("rope_parameters",))
    checkpoint.import_()
    checkpoint.assert_same_logits(model)


def test_a_config_of_an_early_version_is_imported(save: Save) -> None:
    checkpoint = save(tiny(num_key_value_heads=4))
    newer = ("num_key_value_heads", "head_dim", "rope_parameters", "attention_bias", "mlp_bias", "attention_dropout")
    checkpoint.edit_config({"max_sequence_length": 32}, without=newer)
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_saved_rotary_tables_are_ignored(save: Save) -> None:
    checkpoint = save(tiny())
    tables = {f"model.layers.{layer}.self_attn.rotary_emb.inv_freq": torch.ones(4) for layer in range(2)}
    checkpoint.edit_tensors(lambda tensors: {**tensors, **tables})
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_a_tied_base_model_without_head_is_imported(save: Save) -> None:
    checkpoint = save(LlamaModel(LlamaConfig(**TINY, tie_word_embeddings=True)))
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_an_untied_base_model_without_head_is_an_error(save: Save) -> None:
    checkpoint = save(LlamaModel(LlamaConfig(**TINY)))
    assert "lm_head.weight is missing" in checkpoint.import_error(FolderError)


def test_only_the_attention_has_dropout(save: Save) -> None:
    checkpoint = save(tiny(attention_dropout=0.25))
    checkpoint.import_()
    spec = checkpoint.spec()
    assert spec["attention"]["dropout"] == 0.25
    assert spec["attention"]["out_dropout"] == spec["ffn"]["dropout"] == spec["architecture"]["embed_dropout"] == 0.0


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attention_bias", "yes"),
        ("head_dim", "wide"),
        ("hidden_act", "mish"),
        ("num_key_value_heads", 0),
        ("partial_rotary_factor", 0.5),
        ("per_layer_config", {"0": {"num_key_value_heads": 1}}),
        ("quantization_config", {"quant_method": "gptq"}),
        ("rope_interleaved", True),
        ("rope_parameters.low_freq_factor", {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0}),
        ("rope_parameters.rope_type", {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 8.0}),
        ("rope_parameters.partial_rotary_factor", {"rope_type": "default", "partial_rotary_factor": 0.5}),
        ("rope_parameters.full_attention", {"full_attention": {"rope_type": "default"}}),
        ("rope_parameters.rope_theta", {"rope_type": "default", "rope_theta": "many"}),
        ("rope_parameters", "default"),
        ("rope_scaling", {"type": "linear", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 2.0}),
        ("sliding_window", 16),
    ],
)
def test_a_setting_that_a_spec_cannot_express_is_named(save: Save, key: str, value: Any) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_config({key.partition(".")[0]: value})
    assert f"config.json: $.{key}: " in checkpoint.import_error(SpecError)


def test_two_different_rotary_bases_are_an_error(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_config({"rope_theta": 500000.0})
    assert "$.rope_parameters.rope_theta: a gptzoo spec cannot express 10000.0" in checkpoint.import_error(SpecError)


def test_the_error_for_unsupported_rope_scaling_names_its_type(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_config({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, without=("rope_parameters",))
    assert '$.rope_scaling.rope_type: a gptzoo spec cannot express "dynamic"' in checkpoint.import_error(SpecError)


def test_every_transformers_setting_is_known_and_a_missing_one_means_its_default() -> None:
    importer = LlamaImporter.Config().build()
    settings = Settings(json.loads(LlamaConfig().to_json_string(use_diff=False)))
    full = importer.spec(settings)
    settings.require_all_read(LlamaImporter.no_effect)
    assert gptzoo.load_model_spec(importer.spec(Settings({}))) == gptzoo.load_model_spec(full)
