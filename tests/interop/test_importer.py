"""Imports of any family: tensors, files, tokenizers, settings, and importers from plugins."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

import gptzoo
from gptzoo import registry
from gptzoo.errors import FolderError, PluginError, SpecError
from gptzoo.interop import hugging_face
from gptzoo.interop.importer import Importer, Weight, transpose
from gptzoo.interop.settings import Settings
from gptzoo.interop.stored_tensors import StoredTensor
from gptzoo.registry import Origin

Save = Callable[..., Any]


@pytest.fixture
def checkpoint(save: Save) -> Any:
    return save(gpt2(61))


def gpt2(vocab_size: int) -> GPT2LMHeadModel:
    sizes = {"vocab_size": vocab_size, "n_positions": 16, "n_embd": 16, "n_layer": 2, "n_head": 4}
    return GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))


def llama() -> LlamaForCausalLM:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    return LlamaForCausalLM(LlamaConfig(vocab_size=61, max_position_embeddings=16, **sizes))


# ---------------------------------------------------------------------- tensors


def test_missing_unexpected_and_misshaped_tensors_are_all_listed(checkpoint: Any) -> None:
    def spoil(tensors: dict[str, Any]) -> dict[str, Any]:
        del tensors["transformer.h.1.ln_2.bias"]
        tensors["transformer.h.0.mlp.c_fc.weight"] = torch.zeros(64, 16)
        tensors["score.weight"] = torch.zeros(2, 16)
        return tensors

    checkpoint.edit_tensors(spoil)
    text = checkpoint.import_error(FolderError)
    assert "h.1.ln_2.bias is missing" in text
    assert "score.weight is unexpected" in text
    assert "transformer.h.0.mlp.c_fc.weight (64, 16) cannot be converted to blocks.0.ffn.up.weight (64, 16)" in text


def test_the_first_problems_are_listed_and_the_others_counted(checkpoint: Any) -> None:
    checkpoint.edit_config({"n_layer": 4})  # twelve tensors each
    text = checkpoint.import_error(FolderError)
    assert text.count(" is missing") == 10
    assert text.endswith("and 14 more")


def test_misshaped_sources_of_a_fused_projection_are_named(save: Save) -> None:
    checkpoint = save(llama())
    name = "model.layers.0.self_attn.k_proj.weight"
    for shape in ((8, 16), (16, 8), (16,)):
        checkpoint.edit_tensors(lambda tensors, shape=shape: {**tensors, name: torch.zeros(shape)})
        text = checkpoint.import_error(FolderError)
        assert f"{name} {shape} and " in text
        assert "cannot be converted to blocks.0.attention.qkv.weight (48, 16)" in text


def test_integer_weights_are_an_error(checkpoint: Any) -> None:
    name = "transformer.wte.weight"
    checkpoint.edit_tensors(lambda tensors: {**tensors, name: tensors[name].to(torch.int8)})
    assert f"{name} has dtype I8" in checkpoint.import_error(FolderError)


def test_a_weight_stored_under_two_names_is_an_error(checkpoint: Any) -> None:
    checkpoint.edit_tensors(lambda tensors: {**tensors, "wpe.weight": torch.zeros(16, 16)})
    assert "transformer.wpe.weight" in checkpoint.import_error(FolderError)


def test_names_and_shapes_are_checked_before_any_values_are_read(
    checkpoint: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[str] = []
    read = StoredTensor.read
    monkeypatch.setattr(StoredTensor, "read", lambda self: reads.append(self.name) or read(self))
    checkpoint.edit_config({"n_inner": 63})
    checkpoint.import_error(FolderError)
    assert reads == []
    checkpoint.edit_config({"n_inner": 64})
    checkpoint.import_()
    assert len(reads) == len(set(reads)) == 28


# ---------------------------------------------------------------------- files


def test_a_truncated_file_is_an_error(checkpoint: Any) -> None:
    file = checkpoint.folder / "model.safetensors"
    content = file.read_bytes()
    for n_bytes in (0, 4, 100, len(content) - 1):
        file.write_bytes(content[:n_bytes])
        assert f"{file}: cannot be read; it is damaged or incomplete" in checkpoint.import_error(FolderError)


def test_a_missing_shard_is_named(save: Save) -> None:
    checkpoint = save(gpt2(61), max_shard_size="8kB")
    shard = sorted(checkpoint.folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert f"{shard}: no such file" in checkpoint.import_error(FolderError)


def test_an_index_that_contradicts_its_shards_is_an_error(save: Save) -> None:
    checkpoint = save(gpt2(61), max_shard_size="8kB")
    file = checkpoint.folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    del index["weight_map"]["transformer.ln_f.bias"]
    file.write_text(json.dumps(index))
    assert "contents differ from model.safetensors.index.json: transformer.ln_f.bias" in (
        checkpoint.import_error(FolderError)
    )


@pytest.mark.parametrize("weight_map", [None, [], {"wte.weight": 1}])
def test_an_index_without_a_weight_map_is_an_error(checkpoint: Any, weight_map: Any) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    (checkpoint.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert "$.weight_map: expected an object" in checkpoint.import_error(FolderError)


def test_an_index_cannot_name_a_file_in_another_folder(checkpoint: Any) -> None:
    (checkpoint.folder / "model.safetensors").rename(checkpoint.folder.parent / "elsewhere.safetensors")
    index = {"weight_map": {"wte.weight": "../elsewhere.safetensors"}}
    (checkpoint.folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "expected file names in the same folder, got '../elsewhere.safetensors'" in checkpoint.import_error(
        FolderError
    )


def test_missing_weights_config_and_folder_are_named(checkpoint: Any) -> None:
    (checkpoint.folder / "model.safetensors").unlink()
    assert "no model.safetensors" in checkpoint.import_error(FolderError)
    (checkpoint.folder / "config.json").unlink()
    assert "config.json: cannot be read" in checkpoint.import_error(FolderError)
    checkpoint.folder = checkpoint.folder / "deeper"
    assert "no such folder" in checkpoint.import_error(FolderError)


@pytest.mark.parametrize(
    ("text", "error", "reason"),
    [
        ("{", SpecError, "config.json: line 1"),
        ('{"n_embd": NaN}', SpecError, "NaN is not valid JSON"),
        ('{"n_embd": 1, "n_embd": 2}', SpecError, "'n_embd' appears twice"),
        ("[]", FolderError, "expected a JSON object"),
        ("{}", SpecError, "$.model_type: expected the name of a model family  (known: gpt2, llama"),
        ('{"model_type": "gpt3"}', SpecError, "$.model_type: no importer for the model family 'gpt3'"),
        ('{"model_type": "gpt2", "n_embd": 10, "n_head": 3}', SpecError, "$.n_heads: must divide d_model 10, got 3"),
    ],
)
def test_an_error_in_the_config_is_located(checkpoint: Any, text: str, error: type[Exception], reason: str) -> None:
    (checkpoint.folder / "config.json").write_text(text)
    assert reason in checkpoint.import_error(error)


def test_an_output_folder_that_is_not_empty_is_an_error_before_anything_is_read(checkpoint: Any) -> None:
    (checkpoint.folder / "config.json").write_text("not even JSON")
    checkpoint.out.mkdir()
    (checkpoint.out / "model.json").write_text("mine")
    assert "not empty" in checkpoint.import_error(FolderError)
    assert (checkpoint.out / "model.json").read_text() == "mine"
    assert len(list(checkpoint.out.iterdir())) == 1


def test_a_failure_while_reading_leaves_no_files(checkpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def out_of_space(self: StoredTensor) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoredTensor, "read", out_of_space)
    checkpoint.import_error(FolderError)


def test_the_model_folder_does_not_depend_on_the_checkpoint(checkpoint: Any) -> None:
    checkpoint.import_()
    before = load_file(checkpoint.out / "model.safetensors")["embed.weight"].clone()
    (checkpoint.folder / "model.safetensors").write_bytes(bytes(100_000))
    assert torch.equal(load_file(checkpoint.out / "model.safetensors")["embed.weight"], before)


# ---------------------------------------------------------------------- tokenizers

TEXTS = ["Once upon a time, there was a small cat.", "  two  spaces,\n\na tab\t and 42.", "naïve 東京 🙂 – done", ""]


def trained_byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXTS, trainer)
    return tokenizer


def trained_like_sentencepiece() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator([TEXTS[0]], trainers.BpeTrainer(vocab_size=320, special_tokens=special))
    return tokenizer


@pytest.mark.parametrize("train", [trained_byte_level, trained_like_sentencepiece])
def test_tokenizer_json_encodes_as_in_transformers(save: Save, train: Callable[[], Tokenizer]) -> None:
    theirs = PreTrainedTokenizerFast(tokenizer_object=train())
    checkpoint = save(gpt2(len(theirs)))
    theirs.save_pretrained(checkpoint.folder)
    imported = checkpoint.import_()
    ours = gptzoo.load(checkpoint.out).tokenizer
    assert ours is not None
    assert (imported.notes, ours.name, ours.vocab_size) == ((), "bpe", len(theirs))
    for text in TEXTS:
        assert list(ours.encode(text)) == theirs.encode(text, add_special_tokens=False)
    assert len(ours.encode(TEXTS[0])) < len(TEXTS[0])  # merges were used


def test_a_byte_level_tokenizer_decodes_its_own_ids(save: Save) -> None:
    checkpoint = save(gpt2(300))
    trained_byte_level().save(str(checkpoint.folder / "tokenizer.json"))
    checkpoint.import_()
    ours = gptzoo.load(checkpoint.out).tokenizer
    assert ours is not None
    assert [ours.decode(ours.encode(text)) for text in TEXTS] == TEXTS


def test_a_tokenizer_with_more_ids_than_the_model_is_noted(save: Save) -> None:
    checkpoint = save(gpt2(61))
    tokenizer = trained_byte_level()
    tokenizer.save(str(checkpoint.folder / "tokenizer.json"))
    assert checkpoint.import_().notes == (
        f"tokenizer.json has {tokenizer.get_vocab_size() - 61} ids beyond the model's vocabulary",
    )


def test_the_error_for_a_tokenizer_without_byte_tokens_says_what_to_do(checkpoint: Any) -> None:
    tokenizer = Tokenizer(models.WordPiece({"[UNK]": 0, "a": 1, "##b": 2}, unk_token="[UNK]"))
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.save(str(checkpoint.folder / "tokenizer.json"))
    assert "remove this file to import the model without a tokenizer" in checkpoint.import_error(FolderError)
    (checkpoint.folder / "tokenizer.json").unlink()
    checkpoint.import_()


@pytest.mark.parametrize("text", ["{", "[]", '{"version": "1.0"}', '{"model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_json_is_an_error(checkpoint: Any, text: str) -> None:
    (checkpoint.folder / "tokenizer.json").write_text(text)
    assert "tokenizer.json: " in checkpoint.import_error(FolderError)


# ---------------------------------------------------------------------- families from plugins


class Slim(Importer):
    """A family with one layer and unusual setting names."""

    name = "slim"
    no_effect = frozenset({"colour"})
    ignored = "steps_trained"

    def spec(self, settings: Settings) -> dict[str, Any]:
        return {
            "name": "slimmest",
            "vocab_size": settings.count("words", 7),
            "context_length": 8,
            "d_model": settings.count("width", 4),
            "n_layers": 1,
            "n_heads": 1,
            "attention": "naive",
            "positional": "none",
            "norm": {"type": "pre_ln", "layer": "rmsnorm"},
            "ffn": {"type": "mlp", "d_ff": 4},
            "bias": False,
        }

    def weights(self, spec: Any) -> Iterator[Weight]:
        yield Weight("embed.weight", "words", transpose)
        yield Weight("blocks.0.attention.qkv.weight", ("q", "kv"))
        yield Weight("blocks.0.ffn.up.weight", "a", lambda tensor: 2 * tensor)
        for name in ("attention.out", "ffn.down", "norm.layers.attention", "norm.layers.ffn"):
            yield Weight(f"blocks.0.{name}.weight", name)
        yield Weight("exit.weight", "last")

    def tokenizer(self, spec: Any) -> Any:
        return "byte"


def slim_checkpoint(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import save_file

    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "slim", "width": 4, "colour": "red"}')
    square = ("a", "attention.out", "ffn.down", "q")
    tensors = {name: torch.randn(4, 4) for name in square} | {"kv": torch.randn(8, 4), "words": torch.randn(4, 7)}
    tensors |= {name: torch.randn(4) for name in ("norm.layers.attention", "norm.layers.ffn", "last")}
    save_file({**tensors, "steps_trained": torch.tensor(3)}, folder / "model.safetensors")
    return tensors


def use_plugin(*components: type) -> Any:
    class Plugin:
        @gptzoo.hookimpl
        def gptzoo_components(self) -> Any:
            return components

    fresh = registry.discover("none")
    fresh.admit(Plugin(), Origin("test", "test", "1"))
    return registry.use(fresh)


def test_a_family_from_a_plugin_is_imported(tmp_path: Path) -> None:
    theirs = slim_checkpoint(tmp_path / "slim")
    with use_plugin(Slim):
        imported = hugging_face.import_folder(tmp_path / "slim", tmp_path / "out")
        loaded = gptzoo.load(tmp_path / "out")
    assert (imported.family, imported.spec.name) == ("slim", "slimmest")
    assert loaded.tokenizer is not None
    weights = loaded.model.state_dict()
    assert torch.equal(weights["embed.weight"], theirs["words"].t())
    assert torch.equal(weights["blocks.0.attention.qkv.weight"], torch.cat([theirs["q"], theirs["kv"]]))
    assert torch.equal(weights["blocks.0.ffn.up.weight"], 2 * theirs["a"])


def test_an_importer_whose_weights_do_not_match_its_spec_is_named(tmp_path: Path) -> None:
    class Wrong(Slim):
        name = "slim"

        def weights(self, spec: Any) -> Iterator[Weight]:
            yield from (weight for weight in super().weights(spec) if weight.name != "exit.weight")
            yield Weight("exit.scale", "last")

    slim_checkpoint(tmp_path / "slim")
    with use_plugin(Wrong), pytest.raises(PluginError, match=r"importer 'slim'.*: exit\.scale, exit\.weight"):
        hugging_face.import_folder(tmp_path / "slim", tmp_path / "out")


def test_a_plugin_can_support_a_setting_that_others_reject(tmp_path: Path) -> None:
    class Quantized(Slim):
        name = "slim"

        def spec(self, settings: Settings) -> dict[str, Any]:
            assert settings.value("quantization_config") == {"bits": 4}
            return super().spec(settings)

    slim_checkpoint(tmp_path / "slim")
    (tmp_path / "slim" / "config.json").write_text('{"model_type": "slim", "quantization_config": {"bits": 4}}')
    with use_plugin(Quantized):
        hugging_face.import_folder(tmp_path / "slim", tmp_path / "out")
    assert (tmp_path / "out" / "model.json").exists()
    with use_plugin(Slim), pytest.raises(SpecError, match=r"quantization_config.*; only null is supported"):
        hugging_face.import_folder(tmp_path / "slim", tmp_path / "out2")


# ---------------------------------------------------------------------- settings


def test_settings_are_strict_about_types() -> None:
    values = {"a": True, "b": "1", "c": 1.0, "d": None, "e": [], "f": 0}
    for key in values:
        settings = Settings(values)
        assert settings.count(key, 5) == 5
        with pytest.raises(SpecError, match=rf"\$\.{key}: expected a whole number above 0"):
            settings.require_all_read(values)
    for key in "abde":
        settings = Settings(values)
        assert settings.number(key, 0.5) == 0.5
        with pytest.raises(SpecError, match=rf"\$\.{key}: expected a number"):
            settings.require_all_read(values)
    settings = Settings(values)
    assert settings.count("d", None) is settings.number("d", None) is settings.count("left out", None) is None
    assert isinstance(settings.number("f", 1.0), float)
    settings.require_all_read(values)


def test_nested_settings_are_named_by_their_full_path() -> None:
    settings = Settings({"rope": {"theta": "x"}, "moe": 3})
    settings.nested("rope").number("theta", 1.0)
    settings.nested("moe").number("theta", 1.0)
    settings.nested("left out").number("theta", 1.0)
    with pytest.raises(SpecError) as raised:
        settings.require_all_read()
    assert [problem.path for problem in raised.value.problems] == ["$.moe", "$.rope.theta"]
