"""`generate` and `stream`: the same tokens with and without a cache, alone and in a batch; and early errors."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine.sampler import draw_uniforms, sample_tokens
from gptzoo.sampling.generate import generate, stream

BASE: dict[str, Any] = {"vocab_size": 23, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}


def attentions() -> list[str]:
    return list(gptzoo.registered("attention"))


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


def build_model(**fields: Any) -> Any:
    # The weights are larger than GPT-2's, so that the most likely token is not a near tie.
    return gptzoo.build({**BASE, "architecture": {"type": "decoder", "init_std": 0.3}, **fields}, seed=3)


def greedy_without_cache(model: Any, prompt: list[int], n_new: int) -> list[int]:
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(n_new):
            tokens.append(int(model.eval()(torch.tensor([tokens]))[0][0, -1].argmax()))
    return tokens[len(prompt) :]


GREEDY = ({"type": "temperature", "value": 0},)


@pytest.mark.parametrize("attention", attentions())
@pytest.mark.parametrize("positional", ["learned", "rope", "sinusoidal", "none"])
def test_greedy_tokens_are_those_of_full_forward_passes(attention: str, positional: str) -> None:
    model = build_model(attention=attention, positional=positional)
    expected = greedy_without_cache(model, [1, 2, 3], 20)
    assert generate(model, [[1, 2, 3]], spec(max_new_tokens=20, processors=GREEDY)) == [expected]


def test_a_sliding_window_decodes_past_the_size_of_its_ring_buffer() -> None:
    model = build_model(attention={"type": "sdpa", "window": 5}, positional="rope")
    expected = greedy_without_cache(model, [4, 5, 6, 7, 8, 9, 10], 20)
    assert generate(model, [[4, 5, 6, 7, 8, 9, 10]], spec(max_new_tokens=20, processors=GREEDY)) == [expected]


def test_prompts_of_different_lengths_give_the_same_tokens_as_alone() -> None:
    model = build_model(positional="rope")
    prompts = [[1], [2, 3, 4, 5, 6], [7, 8]]
    sampling = spec(max_new_tokens=12, processors=GREEDY)
    assert generate(model, prompts, sampling) == [generate(model, [prompt], sampling)[0] for prompt in prompts]


def test_a_sample_does_not_depend_on_the_batch() -> None:
    model = build_model()
    sampling = spec(max_new_tokens=15, seed=9)
    three, five = generate(model, [[1, 2]] * 3, sampling), generate(model, [[1, 2]] * 5, sampling)
    assert five[:3] == three
    assert len({tuple(row) for row in five}) == 5  # each sample has its own random stream
    assert generate(model, [[1, 2]] * 3, spec(max_new_tokens=15, seed=10)) != three


def test_stream_yields_the_tokens_of_generate() -> None:
    model = build_model()
    sampling = spec(max_new_tokens=10, seed=2)
    streamed = [event.token for (event,) in stream(model, [[3]], sampling) if event]
    assert [streamed] == generate(model, [[3]], sampling)


def test_the_frequencies_of_tokens_match_their_probabilities() -> None:
    model = build_model()
    with torch.inference_mode():
        probabilities = model.eval()(torch.tensor([[5]]))[0][0, -1].softmax(-1)
    n = 4000
    counts = Counter(row[0] for row in generate(model, [[5]] * n, spec(max_new_tokens=1, seed=1)))
    chi_squared = sum((counts[t] - n * p) ** 2 / (n * p) for t, p in enumerate(probabilities.tolist()) if n * p > 5)
    assert chi_squared < 60  # 22 degrees of freedom: 1 in 100,000


def test_a_stop_token_ends_only_its_sequence_and_is_left_out() -> None:
    model = build_model()
    rows = generate(model, [[1]] * 6, spec(max_new_tokens=12, seed=4))
    stop = rows[0][4]
    stopped = generate(model, [[1]] * 6, spec(max_new_tokens=12, seed=4, stop_tokens=[stop]))
    for full, row in zip(rows, stopped, strict=True):
        assert row == (full[: full.index(stop)] if stop in full else full)


def test_invalid_prompts_are_rejected_before_the_first_token() -> None:
    model = build_model(positional="learned")
    with pytest.raises(InputError, match=r"maximum length 32 of this model .* Ask for at most 29 new tokens"):
        generate(model, [[1, 2, 3]], spec(max_new_tokens=30))
    assert len(generate(model, [[1, 2, 3]], spec(max_new_tokens=29))[0]) == 29
    with pytest.raises(InputError, match="prompt is empty"):
        generate(model, [[1], []], spec(max_new_tokens=1))
    with pytest.raises(InputError, match="token id 23 is outside the model's vocabulary of 23"):
        generate(model, [[23]], spec(max_new_tokens=1))
    with pytest.raises(InputError, match="there is no prompt"):
        generate(model, [], spec(max_new_tokens=1))


def test_prompts_of_different_lengths_do_not_need_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build_model(attention="naive", positional="none")
    monkeypatch.setattr(model.spec.attention.component, "supports", frozenset({"rotate", "bias"}))
    sampling = spec(max_new_tokens=5, processors=GREEDY)
    assert generate(model, [[1], [2, 3]], sampling) == [
        generate(model, [prompt], sampling)[0] for prompt in ([1], [2, 3])
    ]


def test_unlimited_positions_generate_beyond_the_context_length() -> None:
    assert len(generate(build_model(positional="rope"), [[1]], spec(max_new_tokens=50))[0]) == 50


def test_zero_new_tokens_is_not_an_error() -> None:
    assert generate(build_model(), [[1], [2]], spec(max_new_tokens=0)) == [[], []]


def test_a_row_with_one_possible_token_still_advances_its_generator() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    only = torch.full((2, 50), float("-inf"))
    only[0, 7], only[1, 0] = -3.0, 2.0
    generators, others = ([torch.Generator().manual_seed(seed) for seed in (4, 5)] for _ in range(2))
    assert sample_tokens(only, draw_uniforms(generators)).tolist() == [7, 0]
    assert sample_tokens(torch.stack([only[0], logits[1]]), draw_uniforms(others))[0] == 7
    assert sample_tokens(logits, draw_uniforms(generators)).equal(sample_tokens(logits, draw_uniforms(others)))


def test_prompts_may_be_rows_of_a_tensor_or_an_array() -> None:
    greedy = spec(processors=GREEDY, max_new_tokens=4)
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    model = build_model()
    expected = generate(model, rows.tolist(), greedy)
    assert generate(model, rows, greedy) == generate(model, rows.numpy(), greedy) == expected
    assert all(type(token) is int for row in expected for token in row)
    with pytest.raises(InputError, match="a prompt is a sequence of token ids, got the text 'Once'"):
        generate(build_model(), ["Once"], greedy)
