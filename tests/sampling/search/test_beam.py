from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from support import small, with_large_weights
from transformers import GPT2Config, GPT2LMHeadModel

import gptzoo
from gptzoo.data.tokenizers.char import CharTokenizer
from gptzoo.interop.hugging_face import import_folder
from gptzoo.sampling.search.beam import beam_search

V = 5


def build_model(**changes: object) -> gptzoo.Architecture:
    return with_large_weights(gptzoo.build(small(vocab_size=V, **changes), seed=3)).eval()


def spec(n_new: int, **fields: object) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate({"max_new_tokens": n_new, **fields})


@torch.inference_mode()
def log_probability(model: gptzoo.Architecture, prompt: list[int], new: tuple[int, ...]) -> float:
    logits, _ = model(torch.tensor([[*prompt, *new]]))
    rows = logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    return sum(rows[index, token].item() for index, token in enumerate(new))


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
def test_with_a_beam_for_every_text_it_ranks_all_texts(length_penalty: float) -> None:
    model, prompt, length = build_model(), [1, 2], 3
    beams = beam_search(model, prompt, spec(length), n_beams=V**length, length_penalty=length_penalty)
    ranked = sorted(itertools.product(range(V), repeat=length), key=lambda text: -log_probability(model, prompt, text))
    assert [beam.tokens for beam in beams] == ranked
    assert beams[0].log_probability == pytest.approx(log_probability(model, prompt, ranked[0]), abs=1e-5)


@pytest.mark.parametrize("length_penalty", [0.0, 0.7, 1.0, 2.0])
def test_finished_texts_compete_with_open_ones(length_penalty: float) -> None:
    model, prompt, length, stop = build_model(), [1, 2], 4, 0
    sampling = spec(length, stop_tokens=[stop])
    beams = beam_search(model, prompt, sampling, n_beams=V**length, length_penalty=length_penalty)

    def score(text: tuple[int, ...]) -> float:
        return log_probability(model, prompt, text) / len(text) ** length_penalty

    texts = {
        text
        for n in range(1, length + 1)
        for text in itertools.product(range(V), repeat=n)
        if stop not in text[:-1] and (text[-1] == stop or n == length)
    }
    best = max(texts, key=score)
    assert beams[0].all_tokens == best
    assert beams[0].score(length_penalty) == pytest.approx(score(best), abs=1e-5)


def test_one_beam_is_greedy_decoding() -> None:
    model, prompt = build_model(), [3]
    (beam,) = beam_search(model, prompt, spec(6), n_beams=1)
    greedy = spec(6, processors=[{"type": "temperature", "value": 0}])
    assert list(beam.tokens) == gptzoo.generate(model, [prompt], greedy)[0]


def test_all_beams_find_a_text_at_least_as_likely_as_one_beam() -> None:
    model, prompt = build_model(), [1, 4, 2]
    scores = [beam_search(model, prompt, spec(5), n_beams=n)[0].log_probability for n in (1, V**5)]
    assert scores[1] >= scores[0] - 1e-5  # the sums of one text may be rounded differently


@pytest.mark.parametrize(
    ("their_options", "processors"),
    [
        ({}, []),
        ({"bad_words_ids": [[3], [7]]}, [{"type": "banned_tokens", "ids": [3, 7]}]),
        ({"no_repeat_ngram_size": 2}, [{"type": "no_repeat_ngram", "size": 2}]),
    ],
)
def test_beams_equal_those_of_transformers(tmp_path: Path, their_options: dict, processors: list) -> None:
    """Compare four beams token by token, with the same GPT-2 weights."""
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=41, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0)
    theirs = with_large_weights(GPT2LMHeadModel(config)).eval()
    theirs.save_pretrained(tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours")
    ours = gptzoo.load(tmp_path / "ours").model
    prompt = [5, 9, 30]
    expected = theirs.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, 3), num_beams=4, num_return_sequences=4,
        do_sample=False, min_new_tokens=30, max_new_tokens=30, eos_token_id=-1, pad_token_id=0,
        **their_options,
    )  # fmt: skip
    beams = beam_search(ours, prompt, spec(30, processors=processors), n_beams=4)
    assert [list(beam.tokens) for beam in beams] == expected[:, 3:].tolist()


def test_the_ring_buffer_of_a_sliding_window_is_reordered_with_its_beams() -> None:
    model = build_model(attention={"type": "sdpa", "window": 3})
    for beam in beam_search(model, [1, 2, 3, 4], spec(8), n_beams=4):
        assert beam.log_probability == pytest.approx(log_probability(model, [1, 2, 3, 4], beam.tokens), abs=1e-4)


def test_beams_follow_a_grammar_and_end_where_it_ends() -> None:
    pytest.importorskip("llguidance")
    tokenizer = CharTokenizer(CharTokenizer.Config(), "abcde")
    model, sampling = build_model(), spec(9, processors=[{"type": "regex", "pattern": "(ab|c)[de]{1,2}"}])
    beams = beam_search(model, [1], sampling, tokenizer, n_beams=40, length_penalty=0.0)
    texts = [tokenizer.decode(beam.tokens) for beam in beams]
    ended = [text for beam, text in zip(beams, texts, strict=True) if beam.finish_reason == "finished"]
    assert sorted(ended) == sorted(first + a + b for first in ("ab", "c") for a in "de" for b in "de")
    sums = [log_probability(model, [1], beam.tokens) for beam in beams]
    assert sums == sorted(sums, reverse=True)
    for beam, total in zip(beams, sums, strict=True):
        assert beam.log_probability == pytest.approx(total, abs=1e-4)


def test_a_stop_string_ends_a_beam() -> None:
    tokenizer = CharTokenizer(CharTokenizer.Config(), "abcde")
    beams = beam_search(build_model(), [1], spec(4, stop_texts=["ba"]), tokenizer, n_beams=V**4)
    for beam in beams:
        text = tokenizer.decode(beam.tokens)
        assert (text.find("ba") == len(text) - 2 >= 0) == (beam.finish_reason == "stop_text")
        assert beam.finish_reason == ("stop_text" if "ba" in text else "length")
