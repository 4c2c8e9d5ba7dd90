"""A model trained here is a checkpoint of transformers: the same logits, texts and tokens, and a model card."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from support import admit, needs_tiktoken_files
from transformers import AutoModelForCausalLM, AutoTokenizer

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel, save_model
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.interop.hugging_face import import_folder
from gptzoo.reference import Reference

RUN = {
    "name": "tales",
    "model": {
        "name": "small",
        "context_length": 96,
        "d_model": 32,
        "n_layers": 2,
        "n_heads": 4,
        "attention": {"type": "sdpa", "n_kv_heads": 2},
        "positional": "rope",
        "norm": {"type": "pre_ln", "layer": "rmsnorm"},
        "activation": "silu",
        "ffn": "glu",
        "bias": False,
    },
    "corpus": "stories",
    "tokenizer": {"type": "bpe", "vocab_size": 300},
    "batch_size": 8,
    "steps": 25,
    "optimizer": {"type": "adamw", "lr": 0.01},
    "eval": {"every": 25},
    "seed": 1,
}
GREEDY = gptzoo.SamplingSpec(max_new_tokens=64, processors=({"type": "temperature", "value": 0.0},))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "tales"
    gptzoo.train(RUN, folder, quiet=True)
    return folder


def tokenizer(reference: object, state: object = None) -> Tokenizer:
    config: Any = Reference("tokenizer").validate(reference)
    return config.build(state)


def untrained(folder: Path, tokens: Tokenizer | None = None, **options: Any) -> LoadedModel:
    """Return a model with random weights, loaded from a model folder."""
    spec = {"vocab_size": 300, "context_length": 32, "d_model": 16, "n_layers": 2, "n_heads": 2, **options}
    save_model(folder, gptzoo.build(gptzoo.load_model_spec(spec), seed=3), tokens)
    return gptzoo.load(folder)


def test_a_trained_model_has_the_same_logits_and_texts_in_transformers(run: Path, tmp_path: Path) -> None:
    loaded = gptzoo.load(run)
    result = gptzoo.export_hf(loaded, tmp_path / "out")
    assert (result.family, result.notes) == ("llama", ())
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    library = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert isinstance(theirs, transformers.LlamaForCausalLM)
    for text in ("Once there was a boy.", "  two  spaces\n<|endoftext|> 東"):
        assert loaded.tokenizer is not None
        assert library(text)["input_ids"] == list(loaded.tokenizer.encode(text))
        assert library.decode(loaded.tokenizer.encode(text)) == text
    inputs = library("Once there was a", return_tensors="pt")
    tokens = inputs["input_ids"]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-5)
    theirs.generation_config.eos_token_id = None  # all 64 tokens
    generated = theirs.generate(**inputs, max_new_tokens=64, do_sample=False)[0, tokens.shape[1] :]
    assert [generated.tolist()] == gptzoo.generate(loaded.model, tokens.tolist(), GREEDY)
    assert len(generated) == 64


def test_an_exported_model_is_imported_with_the_same_weights_and_tokens(run: Path, tmp_path: Path) -> None:
    loaded = gptzoo.load(run)
    gptzoo.export_hf(loaded, tmp_path / "out")
    import_folder(tmp_path / "out", tmp_path / "again")
    again = gptzoo.load(tmp_path / "again")
    ours, theirs = loaded.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert loaded.tokenizer is not None
    assert again.tokenizer is not None
    assert again.tokenizer.end_tokens == loaded.tokenizer.end_tokens
    assert again.tokenizer.encode("Two dogs.") == loaded.tokenizer.encode("Two dogs.")


def test_the_model_card_says_how_the_model_was_trained_and_how_to_load_it(run: Path, tmp_path: Path) -> None:
    gptzoo.export_hf(gptzoo.load(run), tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text()
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = next(row for row in metrics if row["step"] == 25)
    assert card.startswith("---\n# Add the licence")
    name = json.loads((run / "run.json").read_text())["name"]
    assert f"# {name}\n" in card
    assert "| Corpus `stories` |" in card
    assert "| Steps | 25 |" in card
    assert f"| Training tokens at step 25 | {25 * 8 * 96:,} |" in card
    assert f"| Loss, nats per token | {last['val/loss']:.4f} |" in card
    code = card.split("```python\n")[1].split("```")[0].replace("PATH", str(tmp_path / "out"))
    exec(compile(code, "model card", "exec"), {"print": str})


def test_a_model_outside_of_a_run_is_exported_without_training_and_tokenizer(tmp_path: Path) -> None:
    result = gptzoo.export_hf(untrained(tmp_path / "model"), tmp_path / "out")
    assert result.notes == ("the model has no tokenizer, so none is exported",)
    files = {"README.md", "config.json", "generation_config.json", "model.safetensors"}
    assert {file.name for file in (tmp_path / "out").iterdir()} == files
    assert "does not say how it was trained" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    "reference",
    ["byte", pytest.param({"type": "tiktoken", "name": "gpt2"}, marks=needs_tiktoken_files)],
)
def test_built_in_tokenizers_are_exported(reference: object, tmp_path: Path) -> None:
    tokens = tokenizer(reference)
    loaded = untrained(tmp_path / "model", tokens, vocab_size=tokens.vocab_size)
    assert gptzoo.export_hf(loaded, tmp_path / "out").has_tokenizer
    library = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert library(" A café\n")["input_ids"] == list(tokens.encode(" A café\n"))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.config.eos_token_id == theirs.generation_config.eos_token_id == tokens.eot


def test_a_tokenizer_without_such_files_is_left_out_with_a_note(tmp_path: Path, fresh_registry: Any) -> None:
    class Words(gptzoo.Tokenizer):
        """A tokenizer that has no tokenizer.json."""

        name = "words"
        vocab_size, eot = 5, 4

    admit(Words)
    loaded = untrained(tmp_path / "model", tokenizer("words"))
    result = gptzoo.export_hf(loaded, tmp_path / "out")
    assert "tokenizer 'words' cannot be written as a tokenizer.json" in result.notes[0]
    assert json.loads((tmp_path / "out" / "config.json").read_text())["eos_token_id"] == 4


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_weights_are_rounded_to_the_data_type(dtype: Any, tmp_path: Path) -> None:
    loaded = untrained(tmp_path / "model")
    gptzoo.export_hf(loaded, tmp_path / "out", dtype=dtype)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert theirs.dtype == getattr(torch, dtype)
    expected = loaded.model.state_dict()["embed.weight"].to(theirs.dtype)
    assert torch.equal(theirs.get_input_embeddings().weight, expected)


def test_weights_keep_the_type_of_the_model_folder(tmp_path: Path) -> None:
    """An imported checkpoint in 16 bits may have some weights in float32, which are as they were after the export."""
    untrained(tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    exact = "blocks.0.norm.layers.attention.weight"
    stored = {name: tensor if name == exact else tensor.bfloat16() for name, tensor in stored.items()}
    stored[exact] += 2**-20
    save_file(stored, tmp_path / "model" / "model.safetensors")
    result = gptzoo.export_hf(gptzoo.load(tmp_path / "model"), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert result.dtype == "bfloat16"
    assert {name for name, tensor in written.items() if tensor.dtype != torch.bfloat16} == {
        "transformer.h.0.ln_1.weight"
    }
    assert torch.equal(written["transformer.h.0.ln_1.weight"], stored[exact])
    assert torch.equal(written["transformer.wte.weight"], stored["embed.weight"])
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["dtype"], config["torch_dtype"]) == ("bfloat16", "bfloat16")
    assert AutoModelForCausalLM.from_pretrained(tmp_path / "out").dtype == torch.bfloat16


def test_a_weight_that_is_too_large_for_the_data_type_is_refused(tmp_path: Path) -> None:
    loaded = untrained(tmp_path / "model")
    with torch.no_grad():
        loaded.model.get_parameter("blocks.1.ffn.down.weight")[0, 0] = 1e5
    with pytest.raises(gptzoo.InputError, match=r"h\.1\.mlp\.c_proj\.weight .* 100000, .* too large for float16"):
        gptzoo.export_hf(loaded, tmp_path / "out", dtype="float16")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
    gptzoo.export_hf(loaded, tmp_path / "out", dtype="bfloat16")


def test_a_large_model_is_written_in_shards(tmp_path: Path) -> None:
    loaded = untrained(tmp_path / "model")
    result = gptzoo.export_hf(loaded, tmp_path / "out", max_shard_bytes=10_000)
    index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
    shards = {file.name: load_file(file) for file in sorted((tmp_path / "out").glob("*.safetensors"))}
    assert len(shards) > 2
    assert {name: file for file, tensors in shards.items() for name in tensors} == index["weight_map"]
    assert result.n_tensors == len(index["weight_map"])
    sizes = [sum(tensor.nbytes for tensor in tensors.values()) for tensors in shards.values()]
    assert sum(sizes) == index["metadata"]["total_size"]
    # Only a single tensor may be larger than the limit.
    assert all(size <= 10_000 or len(tensors) == 1 for size, tensors in zip(sizes, shards.values(), strict=True))
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.arange(20)[None]
    with torch.no_grad():
        torch.testing.assert_close(loaded.model(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-5)


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    loaded = untrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(gptzoo.FolderError, match="not empty"):
        gptzoo.export_hf(loaded, tmp_path / "out")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["notes.txt"]


def test_nothing_is_written_for_a_model_that_no_family_computes(tmp_path: Path) -> None:
    loaded = untrained(tmp_path / "model", norm="post_ln")
    with pytest.raises(gptzoo.SpecError, match=r"\$\.norm: the spec has \"post_ln\", gpt2 has \"pre_ln\""):
        gptzoo.export_hf(loaded, tmp_path / "out")
    assert [file.name for file in tmp_path.iterdir()] == ["model"]
