"""Every command of docs/variant.md works, in order, on a small random Llama checkpoint."""

from __future__ import annotations

import json
import random
import re
import shlex
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from tokenizers.decoders import ByteLevel
from transformers import LlamaConfig, LlamaForCausalLM

import gptzoo
from gptzoo.cli import main

PAGE = (Path(__file__).parents[1] / "docs" / "variant.md").read_text(encoding="utf-8")
WORDS = ["Once", "upon", "a", "time", "there", "was", "red", "green", "cat", "dog", "and", "then", "it", "slept"]


def commands() -> list[str]:
    """Return the commands of the page, in order."""
    scripts = "".join(re.findall(r"^```sh\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE))
    return scripts.replace("\\\n", " ").strip().splitlines()


def make_checkpoint(folder: Path) -> None:
    """Write a small random Llama with a byte-level tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"])
    tokenizer.train_from_iterator([" ".join(WORDS)], trainer)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        eos_token_id=0,
        bos_token_id=0,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    make_checkpoint(tmp_path / "SmolLM2-135M")
    generator = random.Random(0)
    for name, n_words in (("text.txt", 4000), ("held-out.txt", 400)):
        (tmp_path / name).write_text(" ".join(generator.choices(WORDS, k=n_words)))
    spec = json.loads(re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0])
    (tmp_path / "variant.json").write_text(json.dumps({**spec, "steps": 20, "device": "cpu"}))
    return tmp_path


def test_the_page_can_be_followed_from_top_to_bottom(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = []
    for command in commands():
        name, *arguments = shlex.split(command)
        assert name == "gptzoo"
        main(arguments, standalone_mode=False)
        printed.append("".join(capsys.readouterr()))
    started = next(output for command, output in zip(commands(), printed, strict=True) if "runs/variant" in command)
    for line in re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0].splitlines():
        pattern = re.escape(re.sub(r"[\d,]+ (tensors|values|of|parameters)", r"N \1", line)).replace(
            "N\\ ", r"[\d,]+\ "
        )
        assert re.search(pattern.replace("models/base", r"\S*models/base"), started), f"{line}\n{started}"
    base = gptzoo.load(workplace / "models" / "base").model.state_dict()
    variant = gptzoo.load(workplace / "runs" / "variant").model.state_dict()
    combined = gptzoo.load(workplace / "runs" / "combined").model.state_dict()
    for name, tensor in variant.items():
        is_new = ".ffn." in name and "norm" not in name
        assert is_new or torch.equal(tensor, base[name]), name
        if ".attention." not in name or "norm" in name:
            assert torch.equal(tensor, combined[name]), name
