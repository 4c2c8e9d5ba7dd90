from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from support import loud, small
from transformers import GPT2Config, GPT2LMHeadModel

import gptzoo
from gptzoo.data.tokenizers.tokenizer import CharTokenizer
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.search.beam import beam_search

V = 5


def tiny(**changes: object) -> gptzoo.Architecture:
    return loud(gptzoo.build(small(vocab_size=V, **changes), seed=3)).eval()


def spec(n_new: int, **fields: object) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, **fields})


@torch.inference_mode()
def log_probability(model: gptzoo.Architecture, prompt: list[int], new: tuple[int, ...]) -> float:
    logits, _ = model(torch.tensor([[*prompt, *new]]))
    rows = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    return sum(rows[index, token].item() for index, token in enumerate(new))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_with_as_many_beams_as_texts_it_finds_the_likeliest_of_all(length_penalty: float) -> None:
    model, prompt, length = tiny(), [1, 2], 3
    found = beam_search(model, prompt, spec(length), n_beams=V**length, length_penalty=length_penalty)
    every = sorted(itertools.product(range(V), repeat=length), key=lambda text: -log_probability(model, prompt, text))
    assert [beam.tokens for beam in found] == every
    assert found[0].log_probability == pytest.approx(log_probability(model, prompt, every[0]), abs=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
def test_texts_that_stop_compete_with_those_that_go_on(length_penalty: float) -> None:
    model, prompt, length, stop = tiny(), [1, 2], 4, 0
    how = spec(length, stop_tokens=[stop])
    found = beam_search(model, prompt, how, n_beams=V**length, length_penalty=length_penalty)

    def score(text: tuple[int, ...]) -> float:
        return log_probability(model, prompt, text) / len(text) ** length_penalty

    every = {
        text
        for n in range(1, length + 1)
        for text in itertools.product(range(V), repeat=n)
        if stop not in text[:-1] and (text[-1] == stop or n == length)
    }
    best = max(every, key=score)
    assert tuple(choice.token for choice in found[0].choices) == best
    assert found[0].score(length_penalty) == pytest.approx(score(best), abs=1e-5)


def test_one_beam_is_greedy() -> None:
    model, prompt = tiny(), [3]
    (beam,) = beam_search(model, prompt, spec(6), n_beams=1)
    greedy = spec(6, processors=[{"type": "temperature", "value": 0}])
    assert list(beam.tokens) == gptzoo.generate(model, [prompt], greedy)[0]


def test_more_beams_never_find_less() -> None:
    model, prompt = tiny(), [1, 4, 2]
    scores = [beam_search(model, prompt, spec(5), n_beams=n)[0].log_probability for n in (1, V**5)]
    assert scores[1] >= scores[0] - 1e-5  # of one and the same text, by another order of sums


@pytest.mark.parametrize(
    ("theirs_options", "processors"),
    [
        ({}, []),
        ({"bad_words_ids": [[3], [7]]}, [{"type": "banned_tokens", "ids": [3, 7]}]),
        ({"no_repeat_ngram_size": 2}, [{"type": "no_repeat_ngram", "size": 2}]),
    ],
)
def test_beams_are_those_of_transformers(tmp_path: Path, theirs_options: dict, processors: list) -> None:
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
        **theirs_options,
    )  # fmt: skip
    found = beam_search(ours, prompt, spec(30, processors=processors), n_beams=4)
    assert [list(beam.tokens) for beam in found] == expected[:, 3:].tolist()


def test_a_sliding_window_and_its_ring_are_reordered_with_their_beams() -> None:
    model = tiny(attention={"type": "sdpa", "window": 3})
    for beam in beam_search(model, [1, 2, 3, 4], spec(8), n_beams=4):
        assert beam.log_probability == pytest.approx(log_probability(model, [1, 2, 3, 4], beam.tokens), abs=1e-4)


def test_beams_are_texts_of_a_grammar_and_end_where_it_does() -> None:
    """As many beams as texts: all of them, in the order of what the model thinks of them."""
    pytest.importorskip("llguidance")
    tokenizer = CharTokenizer(CharTokenizer.Config(), "abcde")
    model, how = tiny(), spec(9, processors=[{"type": "regex", "pattern": "(ab|c)[de]{1,2}"}])
    found = beam_search(model, [1], how, tokenizer, n_beams=40, length_penalty=0.0)
    texts = [tokenizer.decode(beam.tokens) for beam in found]
    ended = [text for beam, text in zip(found, texts, strict=True) if beam.choices[-1].end == "finished"]
    assert sorted(ended) == sorted(first + a + b for first in ("ab", "c") for a in "de" for b in "de")
    sums = [log_probability(model, [1], beam.tokens) for beam in found]
    assert sums == sorted(sums, reverse=True)
    for beam, total in zip(found, sums, strict=True):
        assert beam.log_probability == pytest.approx(total, abs=1e-4)


def test_a_stop_text_ends_a_beam() -> None:
    tokenizer = CharTokenizer(CharTokenizer.Config(), "abcde")
    found = beam_search(tiny(), [1], spec(4, stop_texts=["ba"]), tokenizer, n_beams=V**4)
    for beam in found:
        text = tokenizer.decode(beam.tokens)
        assert (text.find("ba") == len(text) - 2 >= 0) == (beam.choices[-1].end == "stop_text")
        assert beam.choices[-1].end == ("stop_text" if "ba" in text else "length")
