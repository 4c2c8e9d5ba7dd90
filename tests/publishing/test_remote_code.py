"""A model with its own code works in transformers: in a process without gptzoo, and in this one its refusals."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers.dynamic_module_utils
from decay import Decay
from remote_code import use_in_transformers
from support import admit
from transformers import AutoModelForCausalLM

import gptzoo
from gptzoo import registry
from gptzoo.checkpoint.model_folder import LoadedModel, save_model
from gptzoo.data.tokenizers.tokenizer import Tokenizer
from gptzoo.eject.refusal import EjectError
from gptzoo.reference import Reference

TEXTS = ("Once there was a", "The two dogs and the cat went to the", "A")
PROMPT = [10, 200, 31, 4, 5, 60, 7, 8, 99, 10, 11, 12]
GREEDY = gptzoo.SamplingSpec(max_new_tokens=30, processors=({"type": "temperature", "value": 0.0},))
THEIRS: dict[str, Any] = {"attention": "decay", "positional": "none", "norm": {"type": "pre_ln", "layer": "rmsnorm"}}
VARIANTS: dict[str, dict[str, Any]] = {
    "window": {
        "norm": "post_ln",
        "attention": {"type": "sdpa", "n_kv_heads": 2, "window": 8, "qk_norm": "rmsnorm"},
        "positional": "rope",
    },
    "own head": {
        "attention": {"type": "naive", "softcap": 5.0, "sinks": True},
        "ffn": "glu",
        "tie_embeddings": False,
        "bias": False,
    },
    "differential": {"attention": "differential", "positional": "rope", "norm": {"type": "pre_ln", "layer": "rmsnorm"}},
    "recurrent and experts": {
        "attention": [{"type": "gated_delta", "conv_size": 2}, "sdpa"],
        "positional": "none",
        "ffn": ["glu", {"type": "moe", "n_experts": 4}],
    },
    "of a stranger": THEIRS,
    "latent": {"attention": "mla", "positional": "rope"},
    "memory": {"attention": {"type": "infini", "segment_length": 8}, "positional": "rope"},
    "buckets": {"positional": "t5"},
    "slopes": {"attention": {"type": "sdpa", "window": 6}, "positional": "alibi"},
}
"""Changes to a spec. Those that need a package are left out where it is not installed."""


def byte_tokenizer() -> Tokenizer:
    config: Any = Reference("tokenizer").validate("byte")
    return config.build(None)


def random_model(folder: Path, options: dict[str, Any]) -> LoadedModel:
    """Return a model with random weights and biases, loaded from a model folder."""
    spec = {"vocab_size": 257, "context_length": 80, "d_model": 32, "n_layers": 2, "n_heads": 4, **options}
    model = gptzoo.build(gptzoo.load_model_spec(spec), seed=3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    save_model(folder, model, byte_tokenizer())
    return gptzoo.load(folder)


def training_loss(loaded: LoadedModel) -> float:
    """Return the loss of the prompt with auxiliary losses over all of its tokens."""
    targets = torch.tensor([[*PROMPT[1:], -100]])
    with torch.no_grad():
        _, loss = loaded.model.train()(torch.tensor([PROMPT]), targets, auxiliary=gptzoo.AuxiliaryOutputs())
    loaded.model.eval()
    return float(loss)


def check(loaded: LoadedModel, folder: Path) -> None:
    """Export a model and compare it with what a process without gptzoo computes."""
    result = gptzoo.export_hf(loaded, folder / "out", remote_code=True)
    assert (result.family, result.has_tokenizer) == ("remote code", True)
    theirs = use_in_transformers(folder / "out", prompt=PROMPT, texts=TEXTS)
    tokens = torch.tensor([PROMPT])
    with torch.no_grad():
        logits, _ = loaded.model(tokens)
        _, loss = loaded.model(tokens[:, :-1], tokens[:, 1:])
    torch.testing.assert_close(torch.tensor(theirs["logits"]), logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(torch.tensor(theirs["again"]), logits, rtol=0, atol=1e-6)
    assert theirs["loss"] == pytest.approx(float(loss), abs=1e-5)
    assert theirs["training_loss"] == pytest.approx(training_loss(loaded), abs=1e-5)
    assert theirs["without_gradient"] == []
    assert not any(theirs["loading"].values())
    assert theirs["ids"] == [list(byte_tokenizer().encode(text)) for text in TEXTS]
    assert theirs["greedy"] == gptzoo.generate(loaded.model, [PROMPT], GREEDY)
    assert theirs["greedy_without_cache"] == theirs["greedy"]
    assert theirs["batch"] == theirs["alone"]  # padding on the left changes nothing
    assert theirs["beams"] == theirs["beams_without_cache"]
    assert len(theirs["beams"]) == 2 * len(TEXTS)
    assert len(theirs["samples"]) == 3 * len(TEXTS)
    assert theirs["pipeline"] == theirs["text"]
    assert (theirs["dtype"], theirs["dtype_of_half"]) == ("torch.float32", "torch.bfloat16")
    # bfloat16 rounds as it does here: its error is as large as that of the model itself.
    with torch.no_grad():
        half = loaded.model.bfloat16()(tokens)[0].float()
        error = float((half - logits).abs().max())
    assert float((torch.tensor(theirs["bfloat16"]) - logits).abs().max()) < 2 * error


@pytest.fixture(scope="module", autouse=True)
def parts() -> Iterator[None]:
    """The parts of installed packages, and that of a stranger."""
    with registry.use(registry.discover()):
        admit(Decay)
        yield


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    """A model with the part of a stranger, and the folder of its export."""
    folder = tmp_path_factory.mktemp("remote code")
    loaded = random_model(folder / "model", THEIRS)
    gptzoo.export_hf(loaded, folder / "out", remote_code=True)
    return loaded, folder / "out"


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], Any]]:
    """A function that loads a folder with transformers, whose copies of the code are deleted."""
    modules = str(tmp_path_factory.mktemp("modules"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(transformers.dynamic_module_utils, "HF_MODULES_CACHE", modules)
        patch.syspath_prepend(modules)
        yield lambda folder: AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True)


@pytest.mark.slow
def test_a_batch_of_texts_generates_the_tokens_of_each_text(exported: Any, load: Any) -> None:
    loaded, folder = exported
    model = load(folder)
    n_padding = 5
    tokens = torch.tensor([PROMPT, [*[0] * n_padding, *PROMPT[n_padding:]]])
    mask = torch.tensor([[1] * len(PROMPT), [0] * n_padding + [1] * (len(PROMPT) - n_padding)])
    theirs = model.generate(tokens, attention_mask=mask, max_new_tokens=30, min_new_tokens=30, do_sample=False)
    expected = [gptzoo.generate(loaded.model, [prompt], GREEDY)[0] for prompt in (PROMPT, PROMPT[n_padding:])]
    assert theirs[:, len(PROMPT) :].tolist() == expected


def test_a_loop_of_its_own_may_use_the_cache_until_it_is_full(exported: Any, load: Any) -> None:
    loaded, folder = exported
    model = load(folder)
    tokens = torch.tensor([PROMPT])
    with torch.no_grad():
        first = model(tokens[:, :7], use_cache=True, logits_to_keep=1)
        second = model(tokens[:, 7:], past_key_values=first.past_key_values)
        expected = loaded.model(tokens)[0]
        torch.testing.assert_close(first.logits, expected[:, 6:7], rtol=0, atol=1e-5)
        torch.testing.assert_close(second.logits, expected[:, 7:], rtol=0, atol=1e-5)
        assert model(tokens).past_key_values is None
        with pytest.raises(ValueError, match="the cache has 12 of 80 tokens, so 69 more do not fit"):
            model(torch.zeros(1, 69, dtype=torch.long), past_key_values=second.past_key_values)


def test_padding_on_the_right_changes_nothing(exported: Any, load: Any) -> None:
    _, folder = exported
    model = load(folder)
    tokens = torch.tensor([PROMPT, [*PROMPT[:5], *[0] * 7]])
    mask = torch.tensor([[1] * 12, [1] * 5 + [0] * 7])
    with torch.no_grad():
        batch, alone = model(tokens, attention_mask=mask).logits, model(tokens[1:, :5]).logits
    torch.testing.assert_close(batch[1:, :5], alone, rtol=0, atol=1e-5)


def test_inputs_without_support_are_refused(exported: Any, load: Any) -> None:
    _, folder = exported
    model, tokens = load(folder), torch.tensor([PROMPT])
    for inputs in ({"position_ids": tokens}, {"inputs_embeds": tokens}, {"output_hidden_states": True}):
        with pytest.raises(ValueError, match=f"does not support {next(iter(inputs))}"):
            model(tokens, **inputs)
    with pytest.raises(ValueError, match=r"expected an attention_mask \(B, 12\), got \(1, 11\)"):
        model(tokens, attention_mask=torch.ones(1, 11))
    with pytest.raises(ValueError, match="not supported with stateful models"):
        model.generate(tokens, prompt_lookup_num_tokens=2)
    with pytest.raises(NotImplementedError, match="vocabulary size is a constant"):
        model.resize_token_embeddings(300)


def test_the_file_of_the_model_works_alone(exported: Any) -> None:
    loaded, folder = exported
    spec = importlib.util.spec_from_file_location("exported_model", folder / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["exported_model"] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    tokens = torch.tensor([PROMPT])
    with torch.no_grad():
        assert torch.equal(module.load(folder / "model.safetensors")(tokens), loaded.model(tokens)[0])


def test_the_model_card_says_that_the_code_has_to_be_trusted(exported: Any) -> None:
    _, folder = exported
    card = (folder / "README.md").read_text()
    assert "A language model with its own code and " in card
    assert 'AutoModelForCausalLM.from_pretrained("PATH", trust_remote_code=True)' in card
    assert 'AutoTokenizer.from_pretrained("PATH", trust_remote_code=True)' in card
    assert "The model is the code in `model.py` and `modeling_gptzoo.py`" in card
    assert "Read it before you load the model." in card


def test_the_code_has_no_lint(exported: Any) -> None:
    pytest.importorskip("ruff")
    _, folder = exported
    rules = ["--isolated", "--select", "E,F,I,UP,B", "--line-length", "110", "--target-version", "py311"]
    done = subprocess.run([sys.executable, "-m", "ruff", "check", *rules, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_family_and_remote_code_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(gptzoo.InputError, match="choose either a family or remote code"):
        gptzoo.export_hf(random_model(tmp_path / "model", {}), tmp_path / "out", family="gpt2", remote_code=True)


def test_a_part_that_cannot_be_ejected_is_named_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decay, "supports", frozenset())
    loaded = random_model(tmp_path / "model", THEIRS)
    with pytest.raises(EjectError, match="attention 'decay' does not support padding"):
        gptzoo.export_hf(loaded, tmp_path / "out", remote_code=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_two_folders_of_one_name_are_two_models(exported: Any, load: Any, tmp_path: Path) -> None:
    _, folder = exported
    other = random_model(tmp_path / "model", {**THEIRS, "n_layers": 1})
    gptzoo.export_hf(other, tmp_path / folder.name, remote_code=True)
    assert [len(load(f).model.blocks) for f in (folder, tmp_path / folder.name, folder)] == [2, 1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_runs_without_gptzoo(name: str, tmp_path: Path) -> None:
    try:
        loaded = random_model(tmp_path / "model", VARIANTS[name])
    except gptzoo.SpecError as error:
        pytest.skip(f"a package is not installed: {error}")
    check(loaded, tmp_path)
