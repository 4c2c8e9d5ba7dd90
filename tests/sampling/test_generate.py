"""The loop: the same tokens cached or not, alone or in a batch, streamed or not; and early refusals."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
import torch

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.engine.token_choice import draw
from gptzoo.sampling.generate import generate, stream

BASE: dict[str, Any] = {"vocab_size": 23, "context_length": 32, "d_model": 32, "n_layers": 2, "n_heads": 4}


def attentions() -> list[str]:
    return list(gptzoo.registered("attention"))


def spec(**fields: Any) -> gptzoo.SamplingSpec:
    return gptzoo.SamplingSpec.model_validate(fields)


def model(**fields: Any) -> Any:
    # Larger weights than GPT-2's, so that the likeliest token is not a near tie.
    return gptzoo.build({**BASE, "architecture": {"type": "decoder", "init_std": 0.3}, **fields}, seed=3)


def greedy_by_full_forwards(model: Any, prompt: list[int], n_new: int) -> list[int]:
    tokens = list(prompt)
    with torch.inference_mode():
        for _ in range(n_new):
            tokens.append(int(model.eval()(torch.tensor([tokens]))[0][0, -1].argmax()))
    return tokens[len(prompt) :]


GREEDY = ({"type": "temperature", "value": 0},)


@pytest.mark.parametrize("attention", attentions())
@pytest.mark.parametrize("positional", ["learned", "rope", "sinusoidal", "none"])
def test_greedy_tokens_are_those_of_full_forwards(attention: str, positional: str) -> None:
    made = model(attention=attention, positional=positional)
    expected = greedy_by_full_forwards(made, [1, 2, 3], 20)
    assert generate(made, [[1, 2, 3]], spec(max_new_tokens=20, processors=GREEDY)) == [expected]


def test_a_sliding_window_decodes_past_its_ring(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(attention={"type": "sdpa", "window": 5}, positional="rope")
    expected = greedy_by_full_forwards(made, [4, 5, 6, 7, 8, 9, 10], 20)
    assert generate(made, [[4, 5, 6, 7, 8, 9, 10]], spec(max_new_tokens=20, processors=GREEDY)) == [expected]


def test_prompts_of_different_lengths_give_what_each_gives_alone() -> None:
    made = model(positional="rope")
    prompts = [[1], [2, 3, 4, 5, 6], [7, 8]]
    how = spec(max_new_tokens=12, processors=GREEDY)
    assert generate(made, prompts, how) == [generate(made, [prompt], how)[0] for prompt in prompts]


def test_a_row_is_the_same_whatever_is_sampled_beside_it() -> None:
    made = model()
    how = spec(max_new_tokens=15, seed=9)
    three, five = generate(made, [[1, 2]] * 3, how), generate(made, [[1, 2]] * 5, how)
    assert five[:3] == three
    assert len({tuple(row) for row in five}) == 5  # each row has a stream of its own
    assert generate(made, [[1, 2]] * 3, spec(max_new_tokens=15, seed=10)) != three


def test_streaming_gives_the_same_tokens() -> None:
    made = model()
    how = spec(max_new_tokens=10, seed=2)
    streamed = [choice.token for (choice,) in stream(made, [[3]], how) if choice]
    assert [streamed] == generate(made, [[3]], how)


def test_tokens_are_drawn_as_often_as_their_probability_says() -> None:
    made = model()
    with torch.inference_mode():
        probabilities = made.eval()(torch.tensor([[5]]))[0][0, -1].softmax(-1)
    n = 4000
    counts = Counter(row[0] for row in generate(made, [[5]] * n, spec(max_new_tokens=1, seed=1)))
    chi_squared = sum((counts[t] - n * p) ** 2 / (n * p) for t, p in enumerate(probabilities.tolist()) if n * p > 5)
    assert chi_squared < 60  # 22 degrees of freedom: 1 in 100,000


def test_a_stop_token_ends_its_row_alone_and_is_not_given() -> None:
    made = model()
    rows = generate(made, [[1]] * 6, spec(max_new_tokens=12, seed=4))
    stop = rows[0][4]
    stopped = generate(made, [[1]] * 6, spec(max_new_tokens=12, seed=4, stop_tokens=[stop]))
    for whole, cut in zip(rows, stopped, strict=True):
        assert cut == (whole[: whole.index(stop)] if stop in whole else whole)


def test_what_cannot_work_is_refused_before_the_first_token() -> None:
    made = model(positional="learned")
    with pytest.raises(InputError, match="has 32: ask for at most 29 new tokens"):
        generate(made, [[1, 2, 3]], spec(max_new_tokens=30))
    assert len(generate(made, [[1, 2, 3]], spec(max_new_tokens=29))[0]) == 29
    with pytest.raises(InputError, match="prompt is empty"):
        generate(made, [[1], []], spec(max_new_tokens=1))
    with pytest.raises(InputError, match="token id 23 is outside the model's vocabulary of 23"):
        generate(made, [[23]], spec(max_new_tokens=1))
    with pytest.raises(InputError, match="no prompt"):
        generate(made, [], spec(max_new_tokens=1))


def test_prompts_of_different_lengths_need_no_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model(attention="naive", positional="none")
    monkeypatch.setattr(made.spec.attention.component, "supports", frozenset({"rotate", "bias"}))
    how = spec(max_new_tokens=5, processors=GREEDY)
    assert generate(made, [[1], [2, 3]], how) == [generate(made, [prompt], how)[0] for prompt in ([1], [2, 3])]


def test_positions_without_a_limit_go_on_beyond_the_context() -> None:
    assert len(generate(model(positional="rope"), [[1]], spec(max_new_tokens=50))[0]) == 50


def test_no_new_tokens_is_no_error() -> None:
    assert generate(model(), [[1], [2]], spec(max_new_tokens=0)) == [[], []]


def test_a_row_with_one_possible_token_takes_its_number_from_the_random_stream_all_the_same() -> None:
    logits = torch.randn(2, 50, generator=torch.Generator().manual_seed(1))
    only = torch.full((2, 50), float("-inf"))
    only[0, 7], only[1, 0] = -3.0, 2.0
    certain, beside = ([torch.Generator().manual_seed(seed) for seed in (4, 5)] for _ in range(2))
    assert draw(only, certain) == [7, 0]
    assert draw(torch.stack([only[0], logits[1]]), beside)[0] == 7
    assert draw(logits, certain) == draw(logits, beside)


def test_prompts_may_be_the_rows_of_a_tensor_or_an_array() -> None:
    greedy = spec(processors=GREEDY, max_new_tokens=4)
    rows = torch.tensor([[1, 2, 3], [4, 5, 6]])
    expected = generate(model(), rows.tolist(), greedy)
    assert generate(model(), rows, greedy) == generate(model(), rows.numpy(), greedy) == expected
    assert all(type(token) is int for row in expected for token in row)
    with pytest.raises(InputError, match="a prompt is a sequence of ids, not a text: 'Once'"):
        generate(model(), ["Once"], greedy)
