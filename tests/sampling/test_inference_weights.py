"""Weights for inference: the same logits, packed or in fewer bits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support import small, with_large_weights

import gptzoo
from gptzoo.errors import InputError
from gptzoo.sampling.inference_weights import PackedLinear, QuantisedLinear, _is_faster_blocked, prepare_for_inference

GREEDY = gptzoo.SamplingSpec.model_validate({"max_new_tokens": 12, "processors": [{"type": "temperature", "value": 0}]})
TOKENS = torch.tensor([[1, 2, 3, 4, 5, 6]])


def build_model(**fields: Any) -> gptzoo.Architecture:
    return with_large_weights(gptzoo.build(small(**{"positional": "rope", **fields}), seed=3)).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("attention", list(gptzoo.registered("attention")))
def test_packed_weights_give_the_same_logits_and_tokens(
    attention: str, tied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gptzoo.sampling.inference_weights._MIN_PACKED_WEIGHTS", 0)  # these models are small
    plain = build_model(attention=attention, tie_embeddings=tied)
    packed = prepare_for_inference(build_model(attention=attention, tie_embeddings=tied))
    with torch.inference_mode():
        torch.testing.assert_close(packed(TOKENS)[0], plain(TOKENS)[0], atol=1e-4, rtol=1e-4)
    assert gptzoo.generate(packed, [[1, 2, 3], [4]], GREEDY) == gptzoo.generate(plain, [[1, 2, 3], [4]], GREEDY)


@pytest.mark.parametrize(("weights", "tolerance"), [("bf16", 0.05), ("int8", 0.08)])
def test_smaller_weight_formats_change_the_logits_only_slightly(weights: Any, tolerance: float) -> None:
    with torch.inference_mode():
        expected = build_model()(TOKENS)[0]
        logits = prepare_for_inference(build_model(), weights)(TOKENS)[0].float()
    assert 0 < (logits - expected).norm() / expected.norm() < tolerance
    assert all(
        len(row) == 12 for row in gptzoo.generate(prepare_for_inference(build_model(), weights), [[1], [2, 3]], GREEDY)
    )


def test_the_error_of_int8_weights_is_at_most_half_a_quantisation_step() -> None:
    weight = torch.randn(24, 32, generator=torch.Generator().manual_seed(0)) * torch.logspace(-3, 3, 24)[:, None]
    weight[5] = 0.0
    layer = QuantisedLinear(weight, None)
    step = weight.abs().amax(dim=1, keepdim=True) / 127
    assert ((layer.weight - weight).abs() <= 0.5001 * step).all()
    assert layer.quantised.dtype == torch.int8


@pytest.mark.parametrize("n_rows", [1, 63, 64, 100])
def test_int8_products_are_those_of_the_dequantised_weights(n_rows: int) -> None:
    generator = torch.Generator().manual_seed(0)
    layer = QuantisedLinear(torch.randn(48, 64, generator=generator).bfloat16(), torch.ones(48).bfloat16())
    x = torch.randn(2, n_rows, 64, generator=generator).bfloat16()
    expected = torch.nn.functional.linear(x.float(), layer.weight.float(), torch.ones(48))
    torch.testing.assert_close(layer(x).float(), expected, atol=0.1, rtol=0.02)


@pytest.mark.parametrize("weights", ["fp32", "bf16", "int8"])
def test_the_state_dict_of_a_prepared_model_identifies_its_weights(weights: Any) -> None:
    plain, other = build_model(), build_model()
    torch.nn.init.zeros_(other.blocks[0].ffn.up.weight)
    one, two = (prepare_for_inference(each, weights).state_dict() for each in (plain, other))
    differing = {name for name, tensor in one.items() if not torch.equal(tensor, two[name])}
    assert differing
    assert all(name.startswith("blocks.0.ffn.up.") for name in differing)


@pytest.mark.parametrize("maker", ["Intel Xeon", "AMD EPYC"])
@pytest.mark.parametrize(("n_outputs", "one_row"), [(511, False), (512, False), (512, True)])
def test_fp32_weights_are_packed_where_that_is_faster(
    n_outputs: int, one_row: bool, maker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: {"cpu_name": maker})
    monkeypatch.setattr("torch.backends.mkl.is_available", lambda: True)
    weight, x = torch.randn(n_outputs, 512), torch.randn(2, 3, 512)
    blocked = _is_faster_blocked(weight, one_row)
    assert blocked == (n_outputs == 512 and (not one_row or maker == "AMD EPYC"))
    layer = PackedLinear(weight, None, blocked=blocked)
    torch.testing.assert_close(layer(x), x @ weight.T, atol=1e-3, rtol=1e-4)
    torch.testing.assert_close(layer.state_dict()["weight"], weight, atol=0, rtol=0)


def test_weights_stay_plain_if_onednn_does_not_support_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gptzoo.sampling.inference_weights._is_faster_blocked", lambda weight, one_row: False)
    with torch.inference_mode():
        expected = build_model().bfloat16()(TOKENS)[0]
        logits = prepare_for_inference(build_model(), "bf16")(TOKENS)[0]
    torch.testing.assert_close(logits, expected, atol=0, rtol=0)


def test_weights_can_be_prepared_once_and_only_in_a_known_format() -> None:
    prepared = prepare_for_inference(build_model())
    with pytest.raises(InputError, match="prepared for inference already"):
        prepare_for_inference(prepared)
    with pytest.raises(InputError, match="unknown weight format 'int3'"):
        prepare_for_inference(build_model(), "int3")  # type: ignore[arg-type]
