"""GPT-2 checkpoints give the same logits as in transformers, or an error that names the unsupported setting."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import tiktoken
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import GPT2Config, GPT2DoubleHeadsModel, GPT2LMHeadModel, GPT2Model

import gptzoo
from gptzoo.errors import FolderError, SpecError
from gptzoo.interop.gpt2 import GPT2Importer
from gptzoo.interop.settings import ACTIVATIONS, Settings

Save = Callable[..., Any]
TINY = {"vocab_size": 61, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4}
IDS = {"bos_token_id": 0, "eos_token_id": 0}


def tiny(**options: Any) -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(**{**TINY, **IDS, **options}))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_word_embeddings": False},
        {"n_inner": 24},
        {"layer_norm_epsilon": 0.1},
        {"n_head": 1},
        *({"activation_function": name} for name in ACTIVATIONS),
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
    grads = {name: parameter.grad for name, parameter in ours.named_parameters()}
    block = theirs.transformer.h[1]
    for name, expected in {
        "embed.weight": theirs.transformer.wte.weight.grad,
        "positionals.0.table.weight": theirs.transformer.wpe.weight.grad,
        "blocks.1.attention.qkv.weight": block.attn.c_attn.weight.grad.t(),
        "blocks.1.ffn.down.weight": block.mlp.c_proj.weight.grad.t(),
        "blocks.1.norm.layers.ffn.bias": block.ln_2.bias.grad,
    }.items():
        assert expected.abs().max() > 1e-3
        assert torch.allclose(grads[name], expected, rtol=0, atol=1e-5), name


def test_a_sharded_checkpoint_is_imported(save: Save) -> None:
    checkpoint = save(tiny(), max_shard_size="8kB")
    assert len(list(checkpoint.folder.glob("model-*.safetensors"))) > 2
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_openais_checkpoint_with_unprefixed_names_and_saved_masks_is_imported(save: Save) -> None:
    checkpoint = save(tiny())

    def like_openais_release(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        masks = {f"h.{layer}.attn.bias": torch.ones(1, 1, 16, 16).tril() for layer in range(2)}
        scalars = {f"h.{layer}.attn.masked_bias": torch.tensor(-1e4) for layer in range(2)}
        return {**{name.removeprefix("transformer."): t for name, t in tensors.items()}, **masks, **scalars}

    checkpoint.edit_tensors(like_openais_release)
    (checkpoint.folder / "config.json").write_text(
        json.dumps({"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "n_ctx": 16, **TINY})
    )
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_a_base_model_without_head_is_imported_with_tied_embeddings(save: Save) -> None:
    checkpoint = save(GPT2Model(GPT2Config(**TINY, **IDS)))
    checkpoint.import_()
    checkpoint.assert_same_logits()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_weights_stay_so_and_a_loaded_model_has_their_values(save: Save, dtype: torch.dtype) -> None:
    checkpoint = save(tiny().to(dtype))
    checkpoint.import_()
    tensors = load_file(checkpoint.out / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {dtype}
    theirs = load_file(checkpoint.folder / "model.safetensors")["transformer.h.0.mlp.c_fc.weight"]
    assert torch.equal(tensors["blocks.0.ffn.up.weight"], theirs.t())
    model = gptzoo.load(checkpoint.out).model
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(model.state_dict()["blocks.0.ffn.up.weight"], theirs.t().float())


@pytest.mark.parametrize("by_layer", [True, False])
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("reorder", [True, False])
def test_scores_are_scaled_as_the_settings_say(save: Save, by_layer: bool, scaled: bool, reorder: bool) -> None:
    options = {"scale_attn_by_inverse_layer_idx": by_layer, "scale_attn_weights": scaled}
    model = tiny(**options, reorder_and_upcast_attn=reorder)
    checkpoint = save(model)
    checkpoint.import_()
    checkpoint.assert_same_logits()
    attention = checkpoint.spec()["attention"]
    assert isinstance(attention, list) == by_layer
    if not scaled or by_layer:  # the scale matters
        other = tiny(scale_attn_by_inverse_layer_idx=False)
        other.load_state_dict(model.state_dict())
        with pytest.raises(AssertionError):
            checkpoint.assert_same_logits(other)


def test_each_dropout_goes_to_the_right_component(save: Save) -> None:
    checkpoint = save(tiny(resid_pdrop=0.3, embd_pdrop=0.2, attn_pdrop=0))
    checkpoint.import_()
    spec = checkpoint.spec()
    assert spec["architecture"]["embed_dropout"] == 0.2
    assert spec["attention"]["dropout"] == 0.0
    assert spec["attention"]["out_dropout"] == spec["ffn"]["dropout"] == 0.3


def test_the_spec_keeps_the_initialisation_scale(save: Save) -> None:
    checkpoint = save(tiny(initializer_range=0.05))
    checkpoint.import_()
    assert checkpoint.spec()["architecture"]["init_std"] == 0.05


def test_a_saved_tied_head_is_accepted_if_it_equals_the_embedding(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_tensors(lambda tensors: {**tensors, "lm_head.weight": tensors["transformer.wte.weight"].clone()})
    checkpoint.import_()
    checkpoint.assert_same_logits()


def test_a_saved_tied_head_with_other_values_is_an_error(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_tensors(lambda tensors: {**tensors, "lm_head.weight": tensors["transformer.wte.weight"] + 1})
    assert "lm_head.weight differs from transformer.wte.weight" in checkpoint.import_error(FolderError)


def test_the_weights_of_another_kind_of_head_are_an_error(save: Save) -> None:
    checkpoint = save(GPT2DoubleHeadsModel(GPT2Config(**TINY, **IDS)))
    assert "multiple_choice_head.summary.weight is unexpected" in checkpoint.import_error(FolderError)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_function", "tanh"),
        ("add_cross_attention", True),
        ("attn_pdrop", None),
        ("is_encoder_decoder", True),
        ("layer_norm_epsilon", "1e-5"),
        ("n_ctx", 8),
        ("n_embd", 16.5),
        ("n_layer", 0),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("some_new_setting", False),
        ("tie_word_embeddings", None),
    ],
)
def test_a_setting_that_a_spec_cannot_express_is_named(save: Save, key: str, value: Any) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_config({key: value})
    assert f"config.json: $.{key}: " in checkpoint.import_error(SpecError)


def test_all_unsupported_settings_are_named_at_once(save: Save) -> None:
    checkpoint = save(tiny())
    checkpoint.edit_config({"scale_attn_weights": 3, "n_layer": -1, "xyz": 1})
    lines = checkpoint.import_error(SpecError).splitlines()
    assert [line.split(": ")[1] for line in lines] == ["$.n_layer", "$.scale_attn_weights", "$.xyz"]


def test_every_transformers_setting_is_known_and_a_missing_one_means_its_default() -> None:
    settings = Settings(json.loads(GPT2Config().to_json_string(use_diff=False)))
    full = importer().spec(settings)
    settings.require_all_read(GPT2Importer.no_effect)
    assert importer().spec(Settings({})) == full


def importer() -> GPT2Importer:
    return GPT2Importer.Config().build()


def test_without_tokenizer_json_a_gpt2_vocabulary_selects_its_tiktoken_encoding(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    bytes_only = tiktoken.Encoding(
        "gpt2", pat_str=".", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={"<|endoftext|>": 256}
    )
    monkeypatch.setattr(tiktoken, "get_encoding", {"gpt2": bytes_only}.__getitem__)
    checkpoint = save(tiny(vocab_size=50257, n_embd=4))
    notes = checkpoint.import_().notes
    tokenizer = gptzoo.load(checkpoint.out).tokenizer
    assert tokenizer is not None
    assert tokenizer.name == "tiktoken"
    assert tokenizer.encode("ab") == [97, 98]
    assert "using" in notes[0]


def test_without_network_the_weights_are_imported_and_a_note_names_the_missing_tokenizer(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(tiktoken, "get_encoding", fail)
    checkpoint = save(tiny(vocab_size=50257, n_embd=4))
    notes = checkpoint.import_().notes
    assert "download" in notes[0]
    assert gptzoo.load(checkpoint.out).tokenizer is None


def test_another_vocabulary_without_tokenizer_json_has_no_tokenizer(save: Save) -> None:
    checkpoint = save(tiny())
    assert any("no tokenizer" in note for note in checkpoint.import_().notes)
    assert gptzoo.load(checkpoint.out).tokenizer is None
