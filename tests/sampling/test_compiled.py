from __future__ import annotations

import re
from typing import Any

import pytest
import torch
import torch._inductor.config
from support import loud, small
from torch._dynamo.utils import counters

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.packed import prepare_for_inference

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 9, "processors": [{"type": "temperature", "value": 0}]})
PROMPTS = [[1, 2, 3], [4], [5, 6]]


def pair(weights: Any = "fp32", **fields: Any) -> tuple[Any, Any]:
    """A model that is prepared, and the same compiled."""
    torch._dynamo.reset()
    counters.clear()
    spec = small(**{"n_layers": 3, **fields})
    plain, compiled = (loud(gptzoo.build(spec, seed=3)) for _ in range(2))
    return prepare_for_inference(plain, weights), prepare_for_inference(compiled, weights, compile=True)


def step(model: Any, states: Any, positions: list[int]) -> torch.Tensor:
    tokens = torch.tensor([[(7 * at) % 11] for at in positions])
    with torch.inference_mode():
        return model(tokens, positions=torch.tensor(positions)[:, None], states=states)[0]


def apart(plain: Any, compiled: Any, batch: int, n_steps: int) -> float:
    """How far the logits of steps after a prompt of 3 tokens are apart, with a cache for 8."""
    prompt = torch.tensor([[1, 2, 3]]).expand(batch, -1)
    with torch.inference_mode():
        caches = [model.new_states(batch, 8) for model in (plain, compiled)]
        for model, states in zip((plain, compiled), caches, strict=True):
            model(prompt, states=states, fresh=True)
    differences = []
    for at in range(3, 3 + n_steps):
        one, two = (step(m, s, [at] * batch) for m, s in zip((plain, compiled), caches, strict=True))
        differences.append(float((one - two).abs().max()))
    return max(differences)


@pytest.mark.slow
@pytest.mark.parametrize("positional", list(gptzoo.registered("positional")))
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
def test_compiled_steps_give_the_same_logits(attention: str, positional: str) -> None:
    plain, compiled = pair(attention=attention, positional=positional, n_layers=2)
    assert apart(plain, compiled, 1, 4) < 1e-4
    assert counters["stats"]["unique_graphs"] == 1, "all positions share one graph"


@pytest.mark.slow
def test_neither_batches_nor_positions_nor_windows_need_new_code_once_each_kind_was_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gptzoo.sampling.packed._LARGE", 0)
    plain, compiled = pair(attention=[{"type": "sdpa", "window": 4}, "sdpa"], n_layers=4, positional="rope")
    for batch in (1, 2):  # a ring that is not full, and one that is
        assert apart(plain, compiled, batch, 3) < 1e-4
    with torch._dynamo.config.patch(error_on_recompile=True):
        assert apart(plain, compiled, 1, 5) < 1e-4
        assert apart(plain, compiled, 3, 5) < 1e-4
        assert apart(plain, compiled, 5, 5) < 1e-4
    assert gptzoo.generate(compiled, PROMPTS, GREEDY) == gptzoo.generate(plain, PROMPTS, GREEDY)


@pytest.mark.slow
def test_code_is_compiled_as_often_as_it_is_needed() -> None:
    with torch._dynamo.config.patch(recompile_limit=1):
        plain, compiled = pair(n_layers=1)
        assert max(apart(plain, compiled, batch, 1) for batch in (1, 2)) < 1e-4
    assert compiled.decode is not None, "it was given up"


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "tolerance"), [("bf16", 0.03), ("int8", 0.05)])
def test_smaller_weights_compile_too(weights: Any, tolerance: float) -> None:
    plain, compiled = pair(weights)
    assert apart(plain, compiled, 2, 3) < tolerance
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.slow
def test_models_of_equal_shapes_do_not_take_each_others_code() -> None:
    """What compiled code is of is not looked at again, so each model must have its own."""
    far = {"n_layers": 1, "positional": "rope"}
    plain, compiled = pair(attention={"type": "sdpa", "window": 2}, **far)
    assert apart(plain, compiled, 1, 3) < 1e-4
    spec = small(**far)
    others = [loud(gptzoo.build(spec, seed=3)) for _ in range(2)]
    other, other_compiled = (
        prepare_for_inference(m, compile=is_twin) for m, is_twin in zip(others, (False, True), strict=True)
    )
    assert apart(other, other_compiled, 1, 3) < 1e-4
    assert apart(other, compiled, 1, 3) > 1e-3, "the window must show, or this proves nothing"


@pytest.mark.slow
def test_a_compiled_step_shows_what_is_asked_for() -> None:
    plain, compiled = pair()
    assert apart(plain, compiled, 1, 1) < 1e-4
    shown = []
    for model in (plain, compiled):
        states, seen = model.new_states(1, 8), gptzoo.Observations()
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]), states=states, fresh=True)
            model(
                torch.tensor([[4]]),
                positions=torch.tensor([[3]]),
                states=states,
                capture={"attention", "residual"},
                observations=seen,
            )
        shown.append(seen.captures)
    assert shown[0].keys() == shown[1].keys() >= {"residual", "blocks.2.attention.attention"}
    for name, one in shown[0].items():
        torch.testing.assert_close(one, shown[1][name], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_is_named_and_computes_as_before() -> None:
    plain, compiled = pair()

    def untraceable(x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else x * 1

    for model in (plain, compiled):
        for block in model.blocks:
            block.ffn.dropout = torch.nn.Identity()
            block.ffn.dropout.forward = untraceable
    with pytest.warns(UserWarning, match="not compiled") as told:
        assert apart(plain, compiled, 1, 2) == 0
    assert [str(each.message).split(" is ")[0] for each in told] == ["decoder"]
    assert re.search(rf"at {re.escape(__file__)}:\d+$", str(told[0].message)), "the place in the component"


def test_prompts_are_not_left_to_compiled_code() -> None:
    _, model = pair()
    with torch.inference_mode():
        model(torch.tensor([[1, 2]]), states=model.new_states(1, 4), fresh=True)
    assert counters["stats"]["unique_graphs"] == 0


def test_without_a_compiler_it_says_what_is_missing() -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")}),
        pytest.raises(InputError, match=r"needs a C\+\+ compiler"),
    ):
        prepare_for_inference(gptzoo.build(small()), compile=True)


@pytest.mark.slow
def test_a_compiled_draft_changes_nothing() -> None:
    plain, compiled = pair()
    draft = prepare_for_inference(loud(gptzoo.build(small(n_layers=1), seed=5)), compile=True)
    expected = gptzoo.generate(plain, PROMPTS, GREEDY)
    assert gptzoo.generate(compiled, PROMPTS, GREEDY, draft=draft) == expected
    assert counters["stats"]["unique_graphs"] >= 1, "the draft's steps, at least, are compiled"
