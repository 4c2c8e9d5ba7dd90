"""KERPLE's kernel compared with its closed form."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 24, "n_layers": 1, "n_heads": 4}


def kerple_of(**changes: Any) -> Any:
    return gptzoo.build({**SMALL, "positional": "kerple", **changes}).positionals[0]


def test_the_bias_is_minus_r1_times_the_logarithm_of_one_plus_r2_times_distance() -> None:
    kerple = kerple_of()
    queries, keys = (5, 6, 900), (0, 5, 6, 7, 899)
    bias = kerple.bias(torch.tensor([queries]), torch.tensor([keys]))
    assert bias.shape == (1, 4, 3, 5)
    for head in range(4):
        r1, r2 = (math.log1p(math.exp(weight[head].item())) for weight in (kerple.r1, kerple.r2))
        for t, q in enumerate(queries):
            for s, k in enumerate(keys):
                expected = -r1 * math.log(1 + r2 * abs(q - k))
                torch.testing.assert_close(bias[0, head, t, s].item(), expected, rtol=1e-5, atol=1e-6)


def test_initial_rates_have_the_range_of_the_paper() -> None:
    kerple = kerple_of(n_heads=1000, d_model=2000)
    for weight, upper in ((kerple.r1, 2.0), (kerple.r2, 1.0)):
        rate = F.softplus(weight)
        assert 0.009 < rate.min() < 0.05
        assert 0.95 * upper < rate.max() < 1.001 * upper
        assert abs(rate.mean() - upper / 2) < 0.1


def test_small_rates_stay_positive_and_have_gradients() -> None:
    kerple = kerple_of()
    kerple.r1.data.fill_(-5.0)
    kerple.r2.data.fill_(-5.0)
    bias = kerple.bias(torch.tensor([[9]]), torch.arange(9)[None])
    assert (bias < 0).all()
    bias.sum().backward()
    assert (kerple.r1.grad != 0).all()
    assert (kerple.r2.grad != 0).all()


def test_a_bfloat16_model_distinguishes_distant_positions() -> None:
    kerple = kerple_of().to(torch.bfloat16)
    kerple.r1.data.fill_(100.0)
    # The biases at the distances 4000 and 5000 differ by 22, and bfloat16 rounds them to multiples of 4.
    bias = kerple.bias(torch.tensor([[5000]]), torch.tensor([[0, 1000]]))
    assert bias.dtype == torch.bfloat16
    assert (bias[..., 0] < bias[..., 1]).all()
