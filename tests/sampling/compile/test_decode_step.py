from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from support import loud, small

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.compile.decode_step import compile_decoding
from gptzoo.sampling.compile.export import export_step, inputs_of
from gptzoo.sampling.engine.state_rows import first_rows
from gptzoo.sampling.weights.prepare import prepare_for_inference

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 9, "processors": [{"type": "temperature", "value": 0}]})
PROMPTS = [[1, 2, 3], [4], [5, 6]]


def pair(weights: Any = "fp32", **fields: Any) -> tuple[Any, Any]:
    """A model that is prepared, and the same compiled."""
    spec = small(**{"n_layers": 3, **fields})
    plain, compiled = (loud(gptzoo.build(spec, seed=3)) for _ in range(2))
    return prepare_for_inference(plain, weights), prepare_for_inference(compiled, weights, compile=True)


@pytest.fixture(scope="module", autouse=True)
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What an earlier state of the code compiled proves nothing about this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where this test alone keeps what it compiles."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the cache can be had, and no more."""

    def refuse(*given: Any, **named: Any) -> None:
        raise RuntimeError("nothing is compiled here")

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", refuse)


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
            model(prompt, states=states, no_past=True)
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
    assert apart(plain, compiled, 2, 4) < 1e-4
    assert apart(plain, compiled, 3, 4) < 1e-4
    assert len(compiled.decode.pieces) == 1, "all positions and all batches share one piece of code"


@pytest.mark.slow
def test_neither_batches_nor_positions_nor_windows_need_new_code_once_each_kind_was_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gptzoo.sampling.weights.prepare._LARGE", 0)
    plain, compiled = pair(attention=[{"type": "sdpa", "window": 4}, "sdpa"], n_layers=4, positional="rope")
    for batch in (1, 2):  # a ring that is not full, and one that is
        assert apart(plain, compiled, batch, 3) < 1e-4
    met = len(compiled.decode.pieces)
    assert apart(plain, compiled, 1, 5) < 1e-4
    assert apart(plain, compiled, 3, 5) < 1e-4
    assert apart(plain, compiled, 5, 5) < 1e-4
    assert gptzoo.generate(compiled, PROMPTS, GREEDY) == gptzoo.generate(plain, PROMPTS, GREEDY)
    assert len(compiled.decode.pieces) == met == 2, "rows may stand at one position or at several"


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "tolerance"), [("bf16", 0.03), ("int8", 0.05)])
def test_smaller_weights_compile_too(weights: Any, tolerance: float) -> None:
    plain, compiled = pair(weights)
    assert apart(plain, compiled, 2, 3) < tolerance
    assert len(compiled.decode.pieces) == 1


@pytest.mark.slow
def test_models_of_equal_shapes_do_not_take_each_others_code(cache: Path) -> None:
    """Nor out of the cache."""
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
    assert len(list(cache.glob("*.pt2"))) == 2


@pytest.mark.slow
def test_a_compiled_step_shows_what_is_asked_for() -> None:
    plain, compiled = pair()
    assert apart(plain, compiled, 1, 1) < 1e-4
    shown = []
    for model in (plain, compiled):
        states, seen = model.new_states(1, 8), gptzoo.AuxiliaryOutputs()
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]), states=states, no_past=True)
            model(
                torch.tensor([[4]]),
                positions=torch.tensor([[3]]),
                states=states,
                capture={"attention", "residual"},
                auxiliary=seen,
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
    (message,) = (str(each.message) for each in told if each.category is UserWarning)
    assert message.startswith("decoder is not compiled")
    assert re.search(rf"at {re.escape(__file__)}:\d+$", message), "the place in the component"


def test_prompts_are_not_left_to_compiled_code() -> None:
    _, model = pair()
    with torch.inference_mode():
        model(torch.tensor([[1, 2]]), states=model.new_states(1, 4), no_past=True)
    assert not model.decode.pieces


def test_under_autocast_steps_are_those_of_autocast() -> None:
    plain, compiled = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert apart(plain, compiled, 2, 2) == 0
    assert not compiled.decode.pieces


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
    assert draft.decode.pieces


def decide(model: Any, act: Any) -> None:
    """Have each feed-forward of a model return what `act` makes of its output and of the step."""
    for block in model.blocks:
        forward = block.ffn.forward
        block.ffn.forward = lambda x, step, state, forward=forward: act(forward(x, step, state), step)


@pytest.mark.slow
@pytest.mark.parametrize("of", ["reach", "batch"])
def test_code_is_not_used_where_a_component_would_decide_otherwise(of: str) -> None:
    """Compiled code has but one side of a branch, and does not ask whether it is the right one."""

    def act(y: torch.Tensor, step: gptzoo.ForwardContext) -> torch.Tensor:
        return 3 * y if {"reach": step.position_limit or 0, "batch": y.shape[0]}[of] > 5 else y

    plain, compiled = pair(n_layers=1)
    for model in (plain, compiled):
        decide(model, act)
    assert apart(plain, compiled, 2, 5) < 1e-4, "of a reach from 4 to 8"
    assert apart(plain, compiled, 7, 5) < 1e-4
    assert apart(plain, compiled, 3, 5) < 1e-4
    assert len(compiled.decode.pieces) == 2


def test_inputs_of_another_layout_do_not_fit_the_code() -> None:
    model, _ = pair(n_layers=1)
    states = model.new_states(3, 8)
    x, at = torch.zeros(3, 1, 32), torch.zeros(1, 1, dtype=torch.int64)
    known = gptzoo.ForwardContext(at, no_past=False, position_limit=5)
    exported = export_step(model, x, known, states)
    conditions = exported.conditions(exported.clauses())

    def left(x: torch.Tensor, states: Any, positions: torch.Tensor = at) -> Any:
        return conditions.remaining(
            inputs_of(x, gptzoo.ForwardContext(positions, no_past=False, position_limit=5), states)
        )

    for fitting in (left(x, states), left(x[:2], first_rows(states, 2)), left(x, model.new_states(3, 40))):
        assert fitting(5)
        assert fitting(6)
        assert not fitting(1), "torch takes a size of 1 for a case of its own"
    assert left(x[:1], first_rows(states, 1)) is None
    assert left(x, model.new_states(2, 8)) is None
    assert left(x, states, at.int()) is None
    assert left(x.double(), states) is None
    shared = at.expand(3, 4)[:, 2:3]
    assert left(x, states, shared)(5), "one position for all rows, and a column of a table, are as one for each"
    assert left(x, model.new_states(3, 8, dtype=torch.float16)) is None
    shorter = [{"attention": {name: tensor[:, :7] for name, tensor in states[0]["attention"].items()}}]
    assert left(x, shorter) is None, "its rows are as far apart as before"


@pytest.mark.slow
def test_what_needs_code_of_its_own_for_each_step_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptzoo.sampling.compile.decode_step._MOST", 2)
    plain, compiled = pair(n_layers=1)
    for model in (plain, compiled):
        decide(model, lambda y, step: y * len(range(step.position_limit or 1)))
    with pytest.warns(
        UserWarning, match="another step of decoder is not compiled: there are 2 pieces of code already"
    ) as told:
        assert apart(plain, compiled, 1, 5) < 1e-4
    assert len([each for each in told if each.category is UserWarning]) == 1
    assert len(compiled.decode.pieces) == 2


@pytest.mark.slow
def test_what_was_compiled_once_is_found_again(cache: Path, request: pytest.FixtureRequest) -> None:
    plain, compiled = pair(n_layers=1)
    assert apart(plain, compiled, 2, 2) < 1e-4
    kept = set(cache.iterdir())
    request.getfixturevalue("no_compiler")
    plain, compiled = pair(n_layers=1, vocab_size=13)
    assert apart(plain, compiled, 2, 2) < 1e-4
    assert len(compiled.decode.pieces) == 1
    assert set(cache.iterdir()) == kept


@pytest.mark.slow
def test_code_in_the_cache_that_is_damaged_is_made_anew(cache: Path) -> None:
    plain, compiled = pair(n_layers=1)
    assert apart(plain, compiled, 1, 1) < 1e-4
    (kept,) = cache.glob("*.pt2")
    whole = kept.read_bytes()
    kept.write_bytes(whole[: len(whole) // 2])
    plain, compiled = pair(n_layers=1)
    with pytest.warns(UserWarning, match="made anew"):
        assert apart(plain, compiled, 1, 1) < 1e-4
    assert kept.stat().st_size > len(whole) // 2


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_costs_time_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "file"))
    plain, compiled = pair(n_layers=1)
    with pytest.warns(UserWarning, match="cannot be kept there: Not a directory"):
        assert apart(plain, compiled, 1, 1) < 1e-4
    assert len(compiled.decode.pieces) == 1


@pytest.mark.slow
def test_a_copy_does_not_decode_with_the_weights_of_the_original() -> None:
    plain, compiled = (loud(gptzoo.build(small(n_layers=1), seed=3)).eval() for _ in range(2))
    compile_decoding(compiled)
    assert apart(plain, compiled, 1, 1) < 1e-4
    other = copy.deepcopy(compiled)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    expected = copy.deepcopy(other)
    expected.decode = None
    assert apart(expected, other, 1, 2) < 1e-4


@pytest.mark.slow
def test_code_for_short_contexts_is_not_taken_for_long_ones(cache: Path) -> None:
    """A compiler decides about sizes that the program leaves open, here how it sums more than 4096 numbers."""
    spec = small(n_layers=1, context_length=8192)
    plain, compiled = (loud(gptzoo.build(spec, seed=3)) for _ in range(2))
    prepare_for_inference(plain)
    prepare_for_inference(compiled, compile=True)
    for length in (30, 5000):
        caches = [model.new_states(1, 5010) for model in (plain, compiled)]
        with torch.inference_mode():
            for model, states in zip((plain, compiled), caches, strict=True):
                model(torch.arange(length)[None] % 11, states=states, no_past=True)
        one, two = (step(m, s, [length]) for m, s in zip((plain, compiled), caches, strict=True))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert len(compiled.decode.pieces) == 2
    assert len(list(cache.glob("*.pt2"))) == 2


@pytest.mark.slow
def test_states_at_an_offset_in_memory_are_not_compiled_for_ever() -> None:
    plain, compiled = pair(n_layers=1)
    caches = []
    for model in (plain, compiled):
        states = model.new_states(4, 8)
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]).expand(4, -1), states=states, no_past=True)
        caches.append([{"attention": {name: t[2:] for name, t in layer["attention"].items()}} for layer in states])
    with pytest.warns(UserWarning, match="its states lie in the memory of others"):
        logits = [step(m, s, [3, 3]) for m, s in zip((plain, compiled), caches, strict=True)]
    torch.testing.assert_close(*logits, atol=0, rtol=0)


@pytest.mark.slow
def test_what_the_compiler_says_is_told(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """And not where in Python it was called."""
    plain, compiled = pair(n_layers=1)
    monkeypatch.setattr("torch._inductor.cpp_builder.CppBuilder.get_command_line", lambda builder: "g++ nowhere.cpp")
    with pytest.warns(UserWarning, match=r"decoder is not compiled: .* error: nowhere\.cpp: [^/]*$"):
        assert apart(plain, compiled, 1, 1) == 0
