from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from support import loud, small
from transformers import GPT2Config, GPT2LMHeadModel

import gptzoo
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.beam import beam_search

V = 5


def tiny(**changes: object) -> gptzoo.Architecture:
    return loud(gptzoo.build(small(vocab_size=V, **changes), seed=3)).eval()


@torch.inference_mode()
def log_probability(model: gptzoo.Architecture, prompt: list[int], new: tuple[int, ...]) -> float:
    logits, _ = model(torch.tensor([[*prompt, *new]]))
    rows = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    return sum(rows[index, token].item() for index, token in enumerate(new))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_with_as_many_beams_as_texts_it_finds_the_likeliest_of_all(length_penalty: float) -> None:
    model, prompt, length = tiny(), [1, 2], 3
    found = beam_search(model, prompt, n_beams=V**length, max_new_tokens=length, length_penalty=length_penalty)
    every = sorted(itertools.product(range(V), repeat=length), key=lambda text: -log_probability(model, prompt, text))
    assert [beam.tokens for beam in found] == every
    assert found[0].log_probability == pytest.approx(log_probability(model, prompt, every[0]), abs=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
def test_texts_that_stop_compete_with_those_that_go_on(length_penalty: float) -> None:
    model, prompt, length, stop = tiny(), [1, 2], 4, 0
    found = beam_search(
        model, prompt, n_beams=V**length, max_new_tokens=length, stop_tokens=[stop], length_penalty=length_penalty
    )

    def score(text: tuple[int, ...]) -> float:
        return log_probability(model, prompt, text) / len(text) ** length_penalty

    every = {
        text
        for n in range(1, length + 1)
        for text in itertools.product(range(V), repeat=n)
        if stop not in text[:-1] and (text[-1] == stop or n == length)
    }
    best = max(every, key=score)
    assert (*found[0].tokens, *([stop] if found[0].finished else [])) == best
    assert found[0].score(length_penalty) == pytest.approx(score(best), abs=1e-5)


def test_one_beam_is_greedy() -> None:
    model, prompt = tiny(), [3]
    (beam,) = beam_search(model, prompt, n_beams=1, max_new_tokens=6)
    greedy = gptzoo.SamplingSpec.model_validate(
        {"max_new_tokens": 6, "processors": [{"type": "temperature", "value": 0}]}
    )
    assert list(beam.tokens) == gptzoo.generate(model, [prompt], greedy)[0]


def test_more_beams_never_find_less() -> None:
    model, prompt = tiny(), [1, 4, 2]
    scores = [beam_search(model, prompt, n_beams=n, max_new_tokens=5)[0].log_probability for n in (1, V**5)]
    assert scores[1] >= scores[0] - 1e-5  # of one and the same text, by another order of sums


def test_beams_are_those_of_transformers(tmp_path: Path) -> None:
    """The same GPT-2 weights, the same four beams, token for token."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=41, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    theirs = loud(GPT2LMHeadModel(config)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    ours = gptzoo.load(tmp_path / "ours").model
    prompt = [5, 9, 30]
    expected = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 3), num_beams=4, num_return_sequences=4,
        do_sample=False, min_new_tokens=30, max_new_tokens=30, eos_token_id=-1, pad_token_id=0,
    )  # fmt: skip
    found = beam_search(ours, prompt, n_beams=4, max_new_tokens=30)
    assert [list(beam.tokens) for beam in found] == expected[:, 3:].tolist()


def test_a_sliding_window_and_its_ring_are_reordered_with_their_beams() -> None:
    model = tiny(attention={"type": "sdpa", "window": 3})
    for beam in beam_search(model, [1, 2, 3, 4], n_beams=4, max_new_tokens=8):
        assert beam.log_probability == pytest.approx(log_probability(model, [1, 2, 3, 4], beam.tokens), abs=1e-4)
