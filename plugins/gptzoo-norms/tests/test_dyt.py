"""Dynamic tanh compared with the formula of the paper, and in place of norms in a model."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from gptzoo_norms import DynamicTanh

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}


def layer_of(width: int = 12, **options: Any) -> Any:
    layer = DynamicTanh.Config(**{"bias": True, **options}).build(width)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=generator)
    return layer


@pytest.mark.parametrize("bias", [True, False])
def test_it_equals_gamma_tanh_alpha_x_plus_beta(bias: bool) -> None:
    layer = layer_of(bias=bias)
    x = 3 * torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    y = layer(x)
    for channel in range(12):
        expected = layer.weight[channel] * torch.tanh(layer.alpha[0] * x[..., channel])
        torch.testing.assert_close(y[..., channel], expected + layer.bias[channel] if bias else expected)


def test_it_equals_x_transformers() -> None:
    theirs = pytest.importorskip("x_transformers.x_transformers").DynamicTanh(12)
    layer = layer_of()
    theirs.load_state_dict({"pre_tanh_scale": layer.alpha[0], "gamma": layer.weight, "beta": layer.bias})
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layer(x), theirs(x))


@pytest.mark.parametrize("alpha", [0.5, 1.25])
def test_initial_values_are_the_alpha_option_gamma_one_and_beta_zero(alpha: float) -> None:
    model = gptzoo.build({**SMALL, "norm": {"type": "pre_ln", "layer": {"type": "dyt", "alpha": alpha}}})
    layers = [module for module in model.modules() if isinstance(module, DynamicTanh)]
    assert len(layers) == 2 * 2 + 1
    for layer in layers:
        assert layer.alpha.shape == (1,)
        assert layer.alpha.item() == alpha
        assert (layer.weight == 1).all()
        assert (layer.bias == 0).all()


def test_it_has_no_bias_in_a_model_without_biases() -> None:
    model = gptzoo.build({**SMALL, "bias": False, "norm": {"type": "pre_ln", "layer": "dyt"}}, device="meta")
    assert set(dict(model.exit.named_parameters())) == {"weight", "alpha"}


def test_it_has_no_option_eps() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.norm\.layer\.eps: 'dyt' has no option 'eps'"):
        gptzoo.load_model_spec({**SMALL, "norm": {"type": "pre_ln", "layer": {"type": "dyt", "eps": 1e-5}}})


@pytest.mark.parametrize("alpha", [0.0, -1.0, 1e-300])
def test_an_alpha_that_is_not_positive_is_refused(alpha: float) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.norm\.layer\.alpha: should be greater than or equal to 0.000001"):
        gptzoo.load_model_spec({**SMALL, "norm": {"type": "pre_ln", "layer": {"type": "dyt", "alpha": alpha}}})


def test_it_works_as_qk_norm_and_all_its_parameters_have_gradients() -> None:
    model = gptzoo.build(
        {**SMALL, "norm": {"type": "pre_ln", "layer": "dyt"}, "attention": {"type": "sdpa", "qk_norm": "dyt"}}
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    tokens = torch.randint(13, (2, 9), generator=torch.Generator().manual_seed(1))
    model(tokens, tokens.roll(-1, 1))[1].backward()
    layers = {name: module for name, module in model.named_modules() if isinstance(module, DynamicTanh)}
    assert "blocks.0.attention.q_norm" in layers
    assert all((p.grad.abs() > 0).any() for layer in layers.values() for p in layer.parameters())


def test_it_computes_in_the_dtype_of_its_parameters_under_autocast() -> None:
    layer = layer_of()
    x = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    torch.testing.assert_close(y, layer(x.float()))
    assert torch.isfinite(layer(torch.full((1, 12), 1e30))).all()


@pytest.mark.parametrize("norm", ["pre_ln", "sandwich"])
def test_a_few_training_steps_lower_the_loss(norm: str) -> None:
    large_init = {"type": "decoder", "init_std": 0.2}  # with small embeddings, training would start slowly
    model = gptzoo.build(
        {**SMALL, "norm": {"type": norm, "layer": "dyt"}, "architecture": large_init, "tie_embeddings": False}
    ).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    tokens = torch.arange(16)[None].expand(4, -1) % 5  # 0 1 2 3 4 0 1 …
    losses = []
    for _ in range(30):
        _, loss = model(tokens[:, :-1], tokens[:, 1:])
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.2 * losses[0]
