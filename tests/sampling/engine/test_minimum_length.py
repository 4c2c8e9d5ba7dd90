"""`min_new_tokens`, `ignore_eos` and `include_stop_text`, with every strategy, compared with decoding by hand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sampling.engine.test_stopping import fitted, spec
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.engine.stopping import StoppingCriteria
from gptzoo.sampling.generate import generate
from gptzoo.sampling.search.strategies import Beams, Contrastive
from gptzoo.sampling.strategies import Sampling, Speculative
from gptzoo.sampling.strategy import Strategy
from gptzoo.sampling.text_stream import StopDecoder

EOT = 256
GREEDY = {"type": "temperature", "value": 0}
LIKELY_END = {"type": "logit_bias", "biases": {"256": 60.0}}  # far above the logits of the other tokens


def build(n_layers: int) -> LoadedModel:
    fields = {"vocab_size": 257, "context_length": 64, "d_model": 16, "n_layers": n_layers, "n_heads": 2}
    model = with_large_weights(gptzoo.build(fields, seed=n_layers)).eval()
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("tiny"))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    return build(2)


@pytest.fixture(scope="module")
def strategies(loaded: LoadedModel) -> Any:
    """Return a function from a spec to all strategies with it."""

    def build_all(sampling: gptzoo.SamplingSpec) -> dict[str, Strategy]:
        return {
            "sampling": Sampling(loaded, sampling),
            "speculative": Speculative(loaded, sampling, build(1), 3),
            "beams": Beams(loaded, sampling, 3),
            "one beam": Beams(loaded, sampling, 1),
            "contrastive": Contrastive(loaded, sampling),
        }

    return build_all


@torch.inference_mode()
def decode_by_hand(loaded: LoadedModel, prompt: str, n: int, n_min: int, stops: Sequence[int]) -> list[int]:
    """Return the greedy tokens, where no token of `stops` may come before `n_min` tokens. The stop token is last."""
    tokens = list(prompt.encode())
    new: list[int] = []
    while len(new) < n:
        outputs, _ = loaded.model(torch.tensor([tokens + new]))
        logits = outputs[0, -1].clone()
        if len(new) < n_min:
            logits[[*stops, EOT]] = -torch.inf
        new.append(int(logits.argmax()))
        if new[-1] in stops:
            break
    return new


@pytest.mark.parametrize("n_min", [0, 1, 3, 9, 20])
def test_greedy_text_with_a_minimum_length_is_that_of_decoding_by_hand(loaded: LoadedModel, n_min: int) -> None:
    free = decode_by_hand(loaded, "Once", 20, 0, [])
    stops = [free[0], free[4], free[9]]
    expected = decode_by_hand(loaded, "Once", 20, n_min, stops)
    fields = {"max_new_tokens": 20, "min_new_tokens": n_min, "stop_tokens": stops, "processors": [GREEDY]}
    for chosen in (Sampling(loaded, spec(**fields)), Speculative(loaded, spec(**fields), build(1), 3)):
        (sample,) = chosen.samples("Once")
        stop = () if sample.stop_token is None else (sample.stop_token,)
        assert [*sample.tokens, *stop] == expected
    if n_min == 0:
        assert len(expected) == 1
    if n_min == 20:
        assert len(expected) == 20


@pytest.mark.parametrize("name", ["sampling", "speculative", "beams", "one beam", "contrastive"])
@pytest.mark.parametrize("n_min", [1, 5, 12])
def test_a_likely_end_comes_right_after_the_minimum(strategies: Any, name: str, n_min: int) -> None:
    fields = {"max_new_tokens": 12, "stop_tokens": [EOT], "processors": [LIKELY_END]}
    (at_once,) = strategies(spec(**fields))[name].samples("Once")
    assert (at_once.tokens, at_once.stop_token) == ((), EOT)
    for sample in strategies(spec(**fields, min_new_tokens=n_min))[name].samples("Once"):
        assert len(sample.tokens) == n_min
        assert EOT not in sample.tokens
        assert sample.finish_reason == ("length" if n_min == 12 else "stop_token")


@pytest.mark.parametrize("name", ["sampling", "speculative", "beams", "contrastive"])
def test_a_text_goes_on_after_the_end_of_text_token_but_not_before_the_minimum(strategies: Any, name: str) -> None:
    fields = {"max_new_tokens": 9, "ignore_eos": True, "processors": [LIKELY_END]}
    (sample,) = strategies(spec(**fields))[name].samples("Once")
    assert (sample.tokens, sample.text, sample.finish_reason) == ((EOT,) * 9, "", "length")
    (later,) = strategies(spec(**fields, min_new_tokens=4))[name].samples("Once")
    assert EOT not in later.tokens[:4]
    assert later.tokens[4:] == (EOT,) * 5


def cut_after_minimum(tokens: Sequence[bytes], stops: Sequence[str], n_min: int, *, include: bool) -> tuple[str, bool]:
    """Return the text up to the stop string that is complete first, byte by byte, in a token after the first `n_min`.

    This is slow and obvious: it looks at every prefix of the text.
    """
    data = b"".join(tokens)
    for end in range(len(b"".join(tokens[:n_min])) + 1, len(data) + 1):
        complete = [stop.encode() for stop in stops if data[:end].endswith(stop.encode())]
        if complete:
            return data[: end if include else end - max(map(len, complete))].decode(), True
    return data.decode(), False


texts = st.text("abré日", max_size=14)


@pytest.mark.parametrize("kind", ["byte", "char", "bpe"])
@given(
    text=texts,
    stops=st.lists(st.text("abré日", min_size=1, max_size=4), min_size=1, max_size=3),
    n_min=st.integers(0, 10),
    include=st.booleans(),
)
def test_a_stop_string_counts_from_the_minimum_on(
    kind: str, text: str, stops: list[str], n_min: int, include: bool
) -> None:
    tokenizer = fitted(kind)
    tokens = [*tokenizer.encode(text)]
    expected, stopped = cut_after_minimum([tokenizer.decode_bytes([t]) for t in tokens], stops, n_min, include=include)
    decoder = StopDecoder(tokenizer, stops, n_min, include)
    parts = [decoder.feed(token) for token in tokens]
    assert decoder.stopped == stopped
    assert "".join(parts) + decoder.flush() == expected

    fields = {"max_new_tokens": 99, "min_new_tokens": n_min, "stop_texts": stops}
    stopping = StoppingCriteria(spec(**fields), tokenizer)
    prefixes = [gptzoo.TokenSequence([1, *tokens[:n]], 1) for n in range(len(tokens) + 1)]
    assert any(stopping.finish_reason(prefix) == "stop_text" for prefix in prefixes) == stopped


def test_a_text_includes_the_stop_string_or_the_stop_token_that_ends_it(loaded: LoadedModel) -> None:
    fields: dict[str, Any] = {
        "max_new_tokens": 30,
        "processors": [{"type": "forced_tokens", "text": "one, two. three"}],
    }
    for stop, without, included in [
        ({"stop_texts": ["wo.", ", t"]}, "one", "one, t"),
        ({"stop_texts": ["two"]}, "one, ", "one, two"),
        ({"stop_tokens": [ord(".")]}, "one, two", "one, two."),
    ]:
        for include, expected in ((False, without), (True, included)):
            sampling = Sampling(loaded, spec(**fields, **stop, include_stop_text=include))
            (sample,) = sampling.samples("Once")
            assert sample.text == expected
            assert "".join(sampling.stream("Once")) == expected


def test_a_minimum_that_cannot_be_reached_is_an_error(loaded: LoadedModel) -> None:
    with pytest.raises(ValueError, match="min_new_tokens 9 is more than max_new_tokens, which is 8"):
        spec(max_new_tokens=8, min_new_tokens=9)
    everything = spec(max_new_tokens=8, min_new_tokens=2, stop_tokens=[*range(256)])
    with pytest.raises(InputError, match="no token is possible at new token 1: the text needs 2 tokens"):
        generate(loaded.model, [[1]], everything, loaded.tokenizer)
    forced = {"processors": [{"type": "forced_tokens", "ids": [65, EOT]}]}
    with pytest.raises(InputError, match="logits_processor 'forced_tokens': no token is possible"):
        generate(loaded.model, [[1]], spec(max_new_tokens=8, min_new_tokens=3, **forced), loaded.tokenizer)
    short = build(1)
    long = spec(min_new_tokens=60)
    positions = gptzoo.build({**short.spec.model_dump(mode="json"), "positional": "learned"})
    limited = LoadedModel(positions, short.tokenizer, short.folder)
    with pytest.raises(InputError, match="54 positions left, fewer than min_new_tokens, which is 60"):
        Sampling(limited, long, fit_length=True).samples("x" * 10)


def test_a_grammar_that_ends_before_the_minimum_is_an_error_and_a_longer_one_goes_on(loaded: LoadedModel) -> None:
    pytest.importorskip("llguidance")
    short = {"processors": [{"type": "regex", "pattern": "ab"}]}
    with pytest.raises(InputError, match="'regex' allows no token after new token 2, but the text needs 5 tokens"):
        generate(loaded.model, [[1]], spec(max_new_tokens=8, min_new_tokens=5, **short), loaded.tokenizer)
    open_end = {"processors": [{"type": "regex", "pattern": "a*b*"}, LIKELY_END], "stop_tokens": [EOT]}
    assert generate(loaded.model, [[1]], spec(max_new_tokens=8, **open_end), loaded.tokenizer) == [[]]
    (tokens,) = generate(loaded.model, [[1]], spec(max_new_tokens=8, min_new_tokens=5, **open_end), loaded.tokenizer)
    assert len(tokens) == 5
