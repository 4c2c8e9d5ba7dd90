"""Partial and scaled RoPE compared with transformers, and the kind `rope_scaling`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo
from gptzoo import registry

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 64, "d_model": 64, "n_layers": 1, "n_heads": 4}


def frequencies(theta: float, width: int) -> Tensor:
    return torch.tensor([theta ** (-2 * pair / width) for pair in range(width // 2)])


def config_of(**options: Any) -> Any:
    return gptzoo.load_model_spec({**SMALL, "positional": {"type": "rope", **options}}).positional


def rope_of(width: int, **options: Any) -> Any:
    dims = gptzoo.load_model_spec(SMALL).dims
    return config_of(**options).build(dims, frozenset({width}))


def queries(width: int, length: int = 7, n_heads: int = 4) -> Tensor:
    return torch.randn(2, n_heads, length, width, generator=torch.Generator().manual_seed(width + n_heads))


def rotated(rope: Any, x: Tensor, positions: Tensor) -> Tensor:
    return rope.rotate(x, x, rope.prepare(positions))[0]


# ---------------------------------------------------------------------- the scalings of transformers

CASES = {
    "linear": ({"type": "linear", "factor": 4.0}, {"rope_type": "linear", "factor": 4.0}, 8192),
    # transformers' "dynamic" at twice its context and with factor f is the static NTK scaling with factor f + 1.
    "ntk": ({"type": "ntk", "factor": 8.0}, {"rope_type": "dynamic", "factor": 7.0}, 8192),
    "yarn": (
        {"type": "yarn", "factor": 16.0, "original_context_length": 4096},
        {"rope_type": "yarn", "factor": 16.0, "original_max_position_embeddings": 4096},
        4096,
    ),
    "yarn-short": (
        {"type": "yarn", "factor": 2.5, "original_context_length": 64, "beta_fast": 8.0, "beta_slow": 2.0},
        {
            "rope_type": "yarn",
            "factor": 2.5,
            "original_max_position_embeddings": 64,
            "beta_fast": 8,
            "beta_slow": 2,
        },
        64,
    ),
    "yarn-fractions": (
        {"type": "yarn", "factor": 32.0, "original_context_length": 4096, "truncate": False},
        {"rope_type": "yarn", "factor": 32.0, "original_max_position_embeddings": 4096, "truncate": False},
        4096,
    ),
    "yarn-factor": (
        {"type": "yarn", "factor": 4.0, "original_context_length": 2048, "attention_factor": 1.3},
        {
            "rope_type": "yarn",
            "factor": 4.0,
            "original_max_position_embeddings": 2048,
            "attention_factor": 1.3,
        },
        2048,
    ),
    "llama3": (
        {"type": "llama3", "factor": 8.0, "original_context_length": 8192},
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 8192,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
        8192,
    ),
    "llama3-short": (
        {
            "type": "llama3",
            "factor": 3.0,
            "original_context_length": 100,
            "low_freq_factor": 2.0,
            "high_freq_factor": 3.0,
        },
        {
            "rope_type": "llama3",
            "factor": 3.0,
            "original_max_position_embeddings": 100,
            "low_freq_factor": 2.0,
            "high_freq_factor": 3.0,
        },
        100,
    ),
}


@pytest.mark.parametrize("fraction", [1.0, 0.5])
@pytest.mark.parametrize("width", [8, 32, 128])
@pytest.mark.parametrize("theta", [10000.0, 500000.0])
@pytest.mark.parametrize("name", CASES)
def test_frequencies_and_attention_factor_equal_transformers(
    name: str, theta: float, width: int, fraction: float
) -> None:
    transformers = pytest.importorskip("transformers")
    init = pytest.importorskip("transformers.modeling_rope_utils").ROPE_INIT_FUNCTIONS
    scaling, parameters, context_length = CASES[name]
    theirs = transformers.LlamaConfig(
        hidden_size=2 * width,
        num_attention_heads=2,
        max_position_embeddings=context_length,
        rope_parameters={**parameters, "rope_theta": theta, "partial_rotary_factor": fraction},
    )
    seq_len = 2 * context_length if parameters["rope_type"] == "dynamic" else None
    expected, attention_factor = init[parameters["rope_type"]](theirs, seq_len=seq_len)

    rope = rope_of(width, theta=theta, fraction=fraction, scaling=scaling)
    original = frequencies(theta, int(width * fraction))
    actual = rope.scaling.scale(original, theta)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=0)
    assert rope.scaling.attention_factor == pytest.approx(attention_factor)

    cos, sin = rope.prepare(torch.tensor([[3]]))[width]
    torch.testing.assert_close(cos.flatten(), (3 * expected).cos() * attention_factor, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(sin.flatten(), (3 * expected).sin() * attention_factor, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_scaling_slows_some_frequencies_and_speeds_up_none(name: str) -> None:
    plain = frequencies(10000.0, 32)
    ratio = rope_of(32, scaling=CASES[name][0]).scaling.scale(plain, 10000.0) / plain
    assert ratio.min() < 0.6
    assert ratio.max() < 1.0001


@pytest.mark.parametrize("name", ["linear", "yarn", "llama3"])
def test_rotated_queries_and_keys_equal_llama(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    scaling, parameters, context_length = CASES[name]
    config = transformers.LlamaConfig(
        hidden_size=64,
        num_attention_heads=4,
        max_position_embeddings=context_length,
        rope_parameters={**parameters, "rope_theta": 10000.0},
    )
    q, k = queries(16), queries(16, n_heads=2)
    positions = torch.tensor([[0, 1, 2, 50, 51, 900, 901], [5, 6, 7, 8, 9, 10, 11]])
    cos, sin = llama.LlamaRotaryEmbedding(config)(q, positions)
    expected = llama.apply_rotary_pos_emb(q, k, cos, sin)
    rope = rope_of(16, scaling=scaling)
    torch.testing.assert_close(rope.rotate(q, k, rope.prepare(positions)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_partial_rope_equals_gpt_neox(fraction: float) -> None:
    transformers = pytest.importorskip("transformers")
    neox = pytest.importorskip("transformers.models.gpt_neox.modeling_gpt_neox")
    config = transformers.GPTNeoXConfig(
        hidden_size=64,
        num_attention_heads=4,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": fraction},
    )
    q, k = queries(16), queries(16, n_heads=2)
    positions = torch.arange(7)[None]
    cos, sin = neox.GPTNeoXRotaryEmbedding(config)(q, positions)
    assert cos.shape[-1] == 16 * fraction
    expected = neox.apply_rotary_pos_emb(q, k, cos, sin)
    rope = rope_of(16, fraction=fraction)
    ours = rope.rotate(q, k, rope.prepare(positions))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    rotary_width = int(16 * fraction)
    assert torch.equal(ours[0][..., rotary_width:], q[..., rotary_width:])


# ---------------------------------------------------------------------- default options and edge cases


def test_a_factor_of_one_changes_nothing() -> None:
    positions = torch.arange(7)[None]
    plain = rotated(rope_of(16), queries(16), positions)
    for name in ("linear", "ntk", "yarn", "llama3"):
        rope = rope_of(16, scaling={"type": name, "factor": 1})
        torch.testing.assert_close(rotated(rope, queries(16), positions), plain)


def test_linear_scaling_equals_interpolated_positions() -> None:
    scaled = rope_of(16, scaling={"type": "linear", "factor": 4})
    far, near = torch.tensor([[0, 4, 40, 400, 8, 12, 16]]), torch.tensor([[0, 1, 10, 100, 2, 3, 4]])
    torch.testing.assert_close(
        rotated(scaled, queries(16), far), rotated(rope_of(16), queries(16), near), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("factor", [2.0, 8.0])
def test_ntk_scaling_equals_a_larger_theta(factor: float) -> None:
    larger = rope_of(16, theta=10000.0 * factor ** (16 / 14))
    scaled = rope_of(16, scaling={"type": "ntk", "factor": factor})
    positions = torch.arange(100, 107)[None]
    torch.testing.assert_close(
        rotated(scaled, queries(16), positions), rotated(larger, queries(16), positions), rtol=1e-4, atol=1e-4
    )


def test_the_original_context_length_defaults_to_that_of_the_model() -> None:
    for name in ("yarn", "llama3"):
        assert config_of(scaling={"type": name, "factor": 2}).scaling.original_context_length == 64
        given = config_of(scaling={"type": name, "factor": 2, "original_context_length": 32})
        assert given.scaling.original_context_length == 32


@pytest.mark.parametrize("name", ["linear", "ntk", "yarn", "llama3"])
@pytest.mark.parametrize("original", [1, 4, 10**12])
def test_scaled_frequencies_are_between_the_original_and_the_slowest_for_any_original_context(
    name: str, original: int
) -> None:
    scaling: dict[str, Any] = {"type": name, "factor": 4.0}
    if name in ("yarn", "llama3"):
        scaling["original_context_length"] = original
    plain = frequencies(10000.0, 16)
    scaled = rope_of(16, scaling=scaling).scaling.scale(plain, 10000.0)
    assert (scaled <= plain * 1.0001).all()
    assert (scaled >= plain / 4.0001).all()
    if original == 10**12 and name in ("yarn", "llama3"):  # all rotate often within it
        torch.testing.assert_close(scaled, plain)


def test_each_width_is_rotated_with_its_own_frequencies() -> None:
    rope = config_of(fraction=0.5).build(gptzoo.load_model_spec(SMALL).dims, frozenset({16, 6, 2}))
    positions = torch.arange(7)[None]
    tables = rope.prepare(positions)
    assert {width: cos.shape[-1] for width, (cos, _) in tables.items()} == {16: 4, 6: 1, 2: 1}  # pairs
    for width in (16, 6, 2):
        alone = rotated(rope_of(width, fraction=0.5), queries(width), positions)
        assert torch.equal(rope.rotate(queries(width), queries(width), tables)[0], alone)


# ---------------------------------------------------------------------- the kind rope_scaling


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scaling": "yarm"}, r"\$\.positional\.scaling: no rope_scaling named 'yarm'; did you mean 'yarn'\?"),
        ({"scaling": "yarn"}, r"\$\.positional\.scaling\.factor: is required"),
        ({"scaling": {"type": "linear", "factor": 0.5}}, r"scaling\.factor: should be greater than or equal to 1"),
        ({"scaling": {"type": "linear", "factor": 2, "beta_fast": 3}}, r"'linear' has no option 'beta_fast'"),
        (
            {"scaling": {"type": "yarn", "factor": 2, "beta_fast": 1.0}},
            r"\$\.positional\.scaling\.beta_fast: should be above beta_slow, 1, not 1",
        ),
        (
            {"scaling": {"type": "llama3", "factor": 2, "low_freq_factor": 5.0}},
            r"\$\.positional\.scaling\.high_freq_factor: should be above low_freq_factor, 5, not 4",
        ),
        ({"fraction": 0.0}, r"fraction: should be greater than 0"),
        ({"fraction": 1.5}, r"fraction: should be less than or equal to 1"),
        ({"theta": 1.0, "scaling": {"type": "ntk", "factor": 2}}, r"theta: should be above 1 with a scaling, got 1"),
    ],
)
def test_invalid_options_are_refused_with_their_location(options: dict[str, Any], message: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=message):
        config_of(**options)


def test_a_resolved_spec_with_a_scaling_loads_as_the_same_spec() -> None:
    spec = gptzoo.load_model_spec({**SMALL, "positional": {"type": "rope", "scaling": {"type": "yarn", "factor": 4}}})
    assert spec.resolved()["positional"]["scaling"]["beta_fast"] == 32.0
    assert gptzoo.load_model_spec(spec.resolved()) == spec


def test_the_json_schema_of_a_model_contains_the_scalings() -> None:
    definitions = str(gptzoo.ModelSpec.model_json_schema())
    assert all(option in definitions for option in ("beta_slow", "low_freq_factor", "'ntk'"))


def test_another_package_can_add_a_scaling(tmp_path: Path) -> None:
    (tmp_path / "halving.py").write_text(
        "import gptzoo\n"
        "class Halving(gptzoo.RopeScaling):\n"
        "    '''Halves every frequency.'''\n"
        "    name = 'halving_in_a_test'\n"
        "    class Config(gptzoo.RopeScaling.Config):\n"
        "        factor: float = 2.0\n"
        "    def scale(self, frequencies, theta):\n"
        "        return frequencies / 2\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [Halving]\n"
    )
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "halving.py")
        positions = torch.arange(7)[None]
        halving, linear = (
            rope_of(16, scaling=scaling) for scaling in ("halving_in_a_test", {"type": "linear", "factor": 2})
        )
        assert torch.equal(rotated(halving, queries(16), positions), rotated(linear, queries(16), positions))
