"""Greedy texts and beams against transformers with the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.engine.engine import Engine
from gptzoo.sampling.request import Request
from gptzoo.sampling.search.beam import beam_search


@pytest.mark.slow
def test_greedy_texts_are_those_of_transformers_for_200_tokens(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    config = GPT2Config(vocab_size=211, n_positions=256, n_embd=64, n_layer=3, n_head=4, initializer_range=0.2)
    theirs = GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    ours = gptzoo.load(tmp_path / "ours").model
    prompts = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [1]]
    spec = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 200, "processors": [{"type": "temperature", "value": 0}]}
    )
    engine = Engine(ours, n_slots=2)
    for number, prompt in enumerate(prompts):
        engine.submit(Request(prompt, spec, id=number))
    tokens: dict[int, list[int]] = {0: [], 1: [], 2: []}
    while engine.busy:
        for event in engine.step():
            assert event.token is not None
            tokens[event.request_id].append(event.token)
    for number, prompt in enumerate(prompts):
        prompt_ids = torch.tensor([prompt])
        expected = theirs.generate(
            prompt_ids,
            attention_mask=torch.ones_like(prompt_ids),
            max_new_tokens=200,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=0,
        )
        assert tokens[number] == expected[0, len(prompt) :].tolist()
    assert len({tuple(text[-50:]) for text in tokens.values()}) == 3  # the texts do not end in the same repetition


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, gptzoo.Architecture]:
    """A small model of transformers in float64, and the same model as imported."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
    )
    folder = tmp_path_factory.mktemp("llama")
    theirs = LlamaForCausalLM(config).eval()
    theirs.save_pretrained(folder / "theirs")
    import_folder(folder / "theirs", folder / "ours")
    return theirs.double(), gptzoo.load(folder / "ours").model.double()


PROMPTS = [[5, 6, 7], [8, 9, 10, 11, 12, 13], [1]]


def generate_theirs(model: Any, prompt: list[int], **options: Any) -> torch.Tensor:
    """Return the new tokens (N, T) of `generate`."""
    prompt_ids = torch.tensor([prompt])
    options = {"max_new_tokens": 24, "do_sample": False, "eos_token_id": None, "pad_token_id": 0, **options}
    return model.generate(prompt_ids, attention_mask=torch.ones_like(prompt_ids), **options)[:, len(prompt) :]


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("n_beams", [1, 2, 5])
def test_beams_are_those_of_transformers(both: Any, n_beams: int, length_penalty: float) -> None:
    theirs, ours = both
    for prompt in PROMPTS:
        expected = generate_theirs(
            theirs, prompt, num_beams=n_beams, num_return_sequences=n_beams, length_penalty=length_penalty
        )
        beams = beam_search(ours, prompt, gptzoo.SamplingSpec(max_new_tokens=24), None, n_beams, length_penalty)
        assert [list(beam.tokens) for beam in beams] == expected.tolist()


@pytest.mark.slow
@pytest.mark.parametrize("length_penalty", [0.0, 0.5, 1.0])
def test_the_best_beam_with_an_end_token_is_that_of_transformers(both: Any, length_penalty: float) -> None:
    theirs, ours = both
    n_ended = 0
    beams = beam_search(ours, PROMPTS[0], gptzoo.SamplingSpec(max_new_tokens=24), None, 4, length_penalty)
    for eos in sorted({token for beam in beams for token in beam.tokens}):  # likely tokens, so that beams end
        expected = generate_theirs(
            theirs,
            PROMPTS[0],
            num_beams=4,
            length_penalty=length_penalty,
            eos_token_id=eos,
            early_stopping="never",
        )[0].tolist()
        spec = gptzoo.SamplingSpec(max_new_tokens=24, stop_tokens=(eos,))
        best = beam_search(ours, PROMPTS[0], spec, None, 4, length_penalty)[0]
        assert list(best.all_tokens) == (expected[: expected.index(eos) + 1] if eos in expected else expected)
        n_ended += best.finish_reason == "stop_token"
    assert n_ended


@pytest.mark.slow
@pytest.mark.parametrize(
    ("chain", "options"),
    [
        ([], {}),
        ([{"type": "repetition_penalty", "value": 1.4}], {"repetition_penalty": 1.4}),
        ([{"type": "no_repeat_ngram", "size": 2}], {"no_repeat_ngram_size": 2}),
        ([{"type": "banned_tokens", "ids": [3, 4, 9, 20]}], {"suppress_tokens": [3, 4, 9, 20]}),
    ],
)
def test_greedy_texts_with_processors_are_those_of_transformers(both: Any, chain: Any, options: Any) -> None:
    theirs, ours = both
    greedy = [*chain, {"type": "temperature", "value": 0}]
    spec = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 24, "processors": greedy})
    expected = [generate_theirs(theirs, prompt, **options)[0].tolist() for prompt in PROMPTS]
    assert gptzoo.generate(ours, PROMPTS, spec) == expected
