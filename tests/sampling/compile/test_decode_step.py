"""Compiled decode steps: the same logits, few compiled variants, guards, and the cache on disk."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch._inductor.config
from support import small, with_large_weights

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.compile.decode_step import compile_decoding
from gptzoo.sampling.compile.export import export_decode_step
from gptzoo.sampling.compile.step_inputs import step_inputs
from gptzoo.sampling.inference_weights import prepare_for_inference
from gptzoo.sampling.state_rows import view_first_rows

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 9, "processors": [{"type": "temperature", "value": 0}]})
PROMPTS = [[1, 2, 3], [4], [5, 6]]


def pair(weights: Any = "fp32", **fields: Any) -> tuple[Any, Any]:
    """Build a prepared model, and the same model with compiled decode steps."""
    spec = small(**{"n_layers": 3, **fields})
    plain, compiled = (with_large_weights(gptzoo.build(spec, seed=3)) for _ in range(2))
    return prepare_for_inference(plain, weights), prepare_for_inference(compiled, weights, compile=True)


@pytest.fixture(scope="module", autouse=True)
def _shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Use a new cache, so that code compiled by an earlier version of gptzoo is not tested."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GPTZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return the cache folder of compiled code, which only this test uses."""
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "compiled"


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let compilation fail, so that only cached code can be used."""

    def fail(*args: Any, **kwargs: Any) -> None:
        raise RuntimeError("this test allows no compilation")

    monkeypatch.setattr("torch._inductor.aoti_compile_and_package", fail)


def step(model: Any, states: Any, positions: list[int]) -> torch.Tensor:
    tokens = torch.tensor([[(7 * at) % 11] for at in positions])
    with torch.inference_mode():
        return model(tokens, positions=torch.tensor(positions)[:, None], states=states)[0]


def max_difference(plain: Any, compiled: Any, batch: int, n_steps: int) -> float:
    """Return the largest difference of the logits in decode steps after a prompt of 3 tokens, with a cache for 8."""
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
    assert max_difference(plain, compiled, 2, 4) < 1e-4
    assert max_difference(plain, compiled, 3, 4) < 1e-4
    assert len(compiled.compiled_decode_step.variants) == 1, "all positions and batch sizes share one variant"


@pytest.mark.slow
def test_new_batch_sizes_positions_and_windows_reuse_the_compiled_variants(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gptzoo.sampling.inference_weights._MIN_PACKED_WEIGHTS", 0)
    plain, compiled = pair(attention=[{"type": "sdpa", "window": 4}, "sdpa"], n_layers=4, positional="rope")
    for batch in (1, 2):  # with a ring buffer that is not full, and a full one
        assert max_difference(plain, compiled, batch, 3) < 1e-4
    n_variants = len(compiled.compiled_decode_step.variants)
    assert max_difference(plain, compiled, 1, 5) < 1e-4
    assert max_difference(plain, compiled, 3, 5) < 1e-4
    assert max_difference(plain, compiled, 5, 5) < 1e-4
    assert gptzoo.generate(compiled, PROMPTS, GREEDY) == gptzoo.generate(plain, PROMPTS, GREEDY)
    assert len(compiled.compiled_decode_step.variants) == n_variants == 2, "one for a single row, one for batches"


@pytest.mark.slow
@pytest.mark.parametrize(("weights", "tolerance"), [("bf16", 0.03), ("int8", 0.05)])
def test_smaller_weight_formats_can_be_compiled(weights: Any, tolerance: float) -> None:
    plain, compiled = pair(weights)
    assert max_difference(plain, compiled, 2, 3) < tolerance
    assert len(compiled.compiled_decode_step.variants) == 1


@pytest.mark.slow
def test_models_of_equal_shapes_do_not_share_code_even_through_the_cache(cache: Path) -> None:
    common = {"n_layers": 1, "positional": "rope"}
    plain, compiled = pair(attention={"type": "sdpa", "window": 2}, **common)
    assert max_difference(plain, compiled, 1, 3) < 1e-4
    spec = small(**common)
    others = [with_large_weights(gptzoo.build(spec, seed=3)) for _ in range(2)]
    other, other_compiled = (
        prepare_for_inference(m, compile=is_twin) for m, is_twin in zip(others, (False, True), strict=True)
    )
    assert max_difference(other, other_compiled, 1, 3) < 1e-4
    assert max_difference(other, compiled, 1, 3) > 1e-3, (
        "the window must make a difference for this test to mean anything"
    )
    assert len(list(cache.glob("*.pt2"))) == 2


@pytest.mark.slow
def test_a_step_with_captures_returns_them() -> None:
    plain, compiled = pair()
    assert max_difference(plain, compiled, 1, 1) < 1e-4
    captures = []
    for model in (plain, compiled):
        states, outputs = model.new_states(1, 8), gptzoo.AuxiliaryOutputs()
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]), states=states, no_past=True)
            model(
                torch.tensor([[4]]),
                positions=torch.tensor([[3]]),
                states=states,
                capture={"attention", "residual"},
                auxiliary=outputs,
            )
        captures.append(outputs.captures)
    assert captures[0].keys() == captures[1].keys() >= {"residual", "blocks.2.attention.attention"}
    for name, one in captures[0].items():
        torch.testing.assert_close(one, captures[1][name], rtol=1e-4, atol=1e-5)


def test_a_stack_that_cannot_be_compiled_runs_uncompiled_with_a_warning() -> None:
    plain, compiled = pair()

    def untraceable(x: torch.Tensor) -> torch.Tensor:
        return x if float(x.sum()) > 0 else x * 1

    for model in (plain, compiled):
        for block in model.blocks:
            block.ffn.dropout = torch.nn.Identity()
            block.ffn.dropout.forward = untraceable
    with pytest.warns(UserWarning, match="not compiled") as warned:
        assert max_difference(plain, compiled, 1, 2) == 0
    (message,) = (str(each.message) for each in warned if each.category is UserWarning)
    assert message.startswith("decoder is not compiled")
    assert re.search(rf"at {re.escape(__file__)}:\d+$", message), "the line in the component"


def test_prompts_are_not_compiled() -> None:
    _, model = pair()
    with torch.inference_mode():
        model(torch.tensor([[1, 2]]), states=model.new_states(1, 4), no_past=True)
    assert not model.compiled_decode_step.variants


def test_steps_under_autocast_are_not_compiled() -> None:
    plain, compiled = pair()
    with torch.autocast("cpu", torch.bfloat16):
        assert max_difference(plain, compiled, 2, 2) == 0
    assert not compiled.compiled_decode_step.variants


def test_a_missing_compiler_is_reported() -> None:
    with (
        torch._inductor.config.patch({"cpp.cxx": (None, "/nowhere/g++")}),
        pytest.raises(InputError, match=r"needs a C\+\+ compiler"),
    ):
        prepare_for_inference(gptzoo.build(small()), compile=True)


@pytest.mark.slow
def test_a_compiled_draft_model_gives_the_same_tokens() -> None:
    plain, compiled = pair()
    draft = prepare_for_inference(with_large_weights(gptzoo.build(small(n_layers=1), seed=5)), compile=True)
    expected = gptzoo.generate(plain, PROMPTS, GREEDY)
    assert gptzoo.generate(compiled, PROMPTS, GREEDY, draft=draft) == expected
    assert draft.compiled_decode_step.variants


def wrap_ffn(model: Any, function: Any) -> None:
    """Apply `function` to the output of each feed-forward network and the forward context."""
    for block in model.blocks:
        forward = block.ffn.forward
        block.ffn.forward = lambda x, context, state, forward=forward: function(forward(x, context, state), context)


@pytest.mark.slow
@pytest.mark.parametrize("size", ["position_limit", "batch"])
def test_code_is_not_used_where_a_component_would_take_another_branch(size: str) -> None:
    """Compiled code contains only one side of a branch, so guards must select it."""

    def triple_if_large(y: torch.Tensor, context: gptzoo.ForwardContext) -> torch.Tensor:
        return 3 * y if {"position_limit": context.position_limit or 0, "batch": y.shape[0]}[size] > 5 else y

    plain, compiled = pair(n_layers=1)
    for model in (plain, compiled):
        wrap_ffn(model, triple_if_large)
    assert max_difference(plain, compiled, 2, 5) < 1e-4, "the position limit goes from 4 to 8"
    assert max_difference(plain, compiled, 7, 5) < 1e-4
    assert max_difference(plain, compiled, 3, 5) < 1e-4
    assert len(compiled.compiled_decode_step.variants) == 2


def test_guards_reject_inputs_of_another_layout() -> None:
    model, _ = pair(n_layers=1)
    states = model.new_states(3, 8)
    x, at = torch.zeros(3, 1, 32), torch.zeros(1, 1, dtype=torch.int64)
    context = gptzoo.ForwardContext(at, no_past=False, position_limit=5)
    exported = export_decode_step(model, x, context, states)
    guards = exported.guards(exported.guard_expressions())

    def specialize(x: torch.Tensor, states: Any, positions: torch.Tensor = at) -> Any:
        return guards.specialize(
            step_inputs(x, gptzoo.ForwardContext(positions, no_past=False, position_limit=5), states)
        )

    for fitting in ((x, states), (x[:2], view_first_rows(states, 2)), (x, model.new_states(3, 40))):
        check_position_limit = specialize(*fitting)
        assert check_position_limit(5)
        assert check_position_limit(6)
        assert not check_position_limit(1), "torch specializes for a size of 1"
    assert specialize(x[:1], view_first_rows(states, 1)) is None
    assert specialize(x, model.new_states(2, 8)) is None
    assert specialize(x, states, at.int()) is None
    assert specialize(x.double(), states) is None
    shared = at.expand(3, 4)[:, 2:3]
    assert specialize(x, states, shared)(5), (
        "shared positions and a column of a table are the same as separate positions"
    )
    assert specialize(x, model.new_states(3, 8, dtype=torch.float16)) is None
    shorter = [{"attention": {name: tensor[:, :7] for name, tensor in states[0]["attention"].items()}}]
    assert specialize(x, shorter) is None, "the strides are the same, but the size is not"


@pytest.mark.slow
def test_a_component_that_needs_a_variant_for_each_step_is_not_compiled_forever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gptzoo.sampling.compile.decode_step.MAX_VARIANTS", 2)
    plain, compiled = pair(n_layers=1)
    for model in (plain, compiled):
        wrap_ffn(model, lambda y, context: y * len(range(context.position_limit or 1)))
    with pytest.warns(
        UserWarning, match="another variant of decoder is not compiled: it has 2 compiled variants already"
    ) as warned:
        assert max_difference(plain, compiled, 1, 5) < 1e-4
    assert len([each for each in warned if each.category is UserWarning]) == 1
    assert len(compiled.compiled_decode_step.variants) == 2


@pytest.mark.slow
def test_compiled_code_is_loaded_from_the_cache(cache: Path, request: pytest.FixtureRequest) -> None:
    plain, compiled = pair(n_layers=1)
    assert max_difference(plain, compiled, 2, 2) < 1e-4
    cached = set(cache.iterdir())
    request.getfixturevalue("no_compiler")
    plain, compiled = pair(n_layers=1, vocab_size=13)
    assert max_difference(plain, compiled, 2, 2) < 1e-4
    assert len(compiled.compiled_decode_step.variants) == 1
    assert set(cache.iterdir()) == cached


@pytest.mark.slow
def test_damaged_code_in_the_cache_is_compiled_again(cache: Path) -> None:
    plain, compiled = pair(n_layers=1)
    assert max_difference(plain, compiled, 1, 1) < 1e-4
    (package,) = cache.glob("*.pt2")
    data = package.read_bytes()
    package.write_bytes(data[: len(data) // 2])
    plain, compiled = pair(n_layers=1)
    with pytest.warns(UserWarning, match="compiled again"):
        assert max_difference(plain, compiled, 1, 1) < 1e-4
    assert package.stat().st_size > len(data) // 2


@pytest.mark.slow
def test_a_read_only_cache_only_costs_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GPTZOO_CACHE", str(tmp_path / "file"))
    plain, compiled = pair(n_layers=1)
    with pytest.warns(UserWarning, match="compiled code cannot be cached: Not a directory"):
        assert max_difference(plain, compiled, 1, 1) < 1e-4
    assert len(compiled.compiled_decode_step.variants) == 1


@pytest.mark.slow
def test_a_deep_copy_decodes_with_its_own_weights() -> None:
    plain, compiled = (with_large_weights(gptzoo.build(small(n_layers=1), seed=3)).eval() for _ in range(2))
    compile_decoding(compiled)
    assert max_difference(plain, compiled, 1, 1) < 1e-4
    other = copy.deepcopy(compiled)
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.5)
    expected = copy.deepcopy(other)
    expected.compiled_decode_step = None
    assert max_difference(expected, other, 1, 2) < 1e-4


@pytest.mark.slow
def test_code_for_short_contexts_is_not_used_for_long_ones(cache: Path) -> None:
    """The compiler adds guards on dynamic sizes: here it sums more than 4096 numbers in another way."""
    spec = small(n_layers=1, context_length=8192)
    plain, compiled = (with_large_weights(gptzoo.build(spec, seed=3)) for _ in range(2))
    prepare_for_inference(plain)
    prepare_for_inference(compiled, compile=True)
    for length in (30, 5000):
        caches = [model.new_states(1, 5010) for model in (plain, compiled)]
        with torch.inference_mode():
            for model, states in zip((plain, compiled), caches, strict=True):
                model(torch.arange(length)[None] % 11, states=states, no_past=True)
        one, two = (step(m, s, [length]) for m, s in zip((plain, compiled), caches, strict=True))
        torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)
    assert len(compiled.compiled_decode_step.variants) == 2
    assert len(list(cache.glob("*.pt2"))) == 2


@pytest.mark.slow
def test_states_at_an_offset_in_memory_are_not_compiled() -> None:
    plain, compiled = pair(n_layers=1)
    caches = []
    for model in (plain, compiled):
        states = model.new_states(4, 8)
        with torch.inference_mode():
            model(torch.tensor([[1, 2, 3]]).expand(4, -1), states=states, no_past=True)
        caches.append([{"attention": {name: t[2:] for name, t in layer["attention"].items()}} for layer in states])
    with pytest.warns(UserWarning, match="its states are views at an offset"):
        logits = [step(m, s, [3, 3]) for m, s in zip((plain, compiled), caches, strict=True)]
    torch.testing.assert_close(*logits, atol=0, rtol=0)


@pytest.mark.slow
def test_the_warning_has_the_message_of_the_compiler(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    plain, compiled = pair(n_layers=1)
    monkeypatch.setattr("torch._inductor.cpp_builder.CppBuilder.get_command_line", lambda builder: "g++ nowhere.cpp")
    with pytest.warns(UserWarning, match=r"decoder is not compiled: .* error: nowhere\.cpp: [^/]*$"):
        assert max_difference(plain, compiled, 1, 1) == 0
