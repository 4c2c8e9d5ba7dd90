"""Both activations compared with transformers and their formulas, and inside feed-forward networks."""

from __future__ import annotations

import importlib.metadata
import json
import math
import re
from pathlib import Path
from typing import Any

import gptzoo_activations
import pytest
import torch
from gptzoo_activations import QuickGELU, SquaredReLU
from torch import Tensor

import gptzoo

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}
BOTH = [SquaredReLU, QuickGELU]


def random_input() -> Tensor:
    return torch.cat([torch.linspace(-30, 30, 241), torch.tensor([0.0, -0.0, 1e-8, -1e4, 1e4])])


@pytest.mark.parametrize(("component", "theirs"), [(SquaredReLU, "relu2"), (QuickGELU, "quick_gelu")])
def test_values_and_gradients_equal_transformers(component: Any, theirs: str) -> None:
    reference = pytest.importorskip("transformers.activations").ACT2FN[theirs]
    ours, x = component.Config().build(8), random_input()
    torch.testing.assert_close(ours(x), reference(x), rtol=1e-6, atol=0)
    gradients = [
        torch.autograd.functional.jacobian(lambda x, f=f: f(x).sum(), random_input().double())
        for f in (ours, reference)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("x", [-3.0, -0.5, 0.0, 0.25, 2.0])
def test_values_equal_the_formula(x: float) -> None:
    value = torch.tensor([x], dtype=torch.float64)
    assert SquaredReLU.Config().build(1)(value).item() == pytest.approx(max(0.0, x) ** 2)
    assert QuickGELU.Config().build(1)(value).item() == pytest.approx(x / (1 + math.exp(-1.702 * x)))


def test_quick_gelu_approximates_gelu() -> None:
    x = torch.linspace(-6, 6, 101)
    assert (QuickGELU.Config().build(1)(x) - torch.nn.functional.gelu(x)).abs().max() < 0.021


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("component", BOTH)
def test_it_keeps_dtype_and_shape_and_is_elementwise(component: Any, dtype: torch.dtype) -> None:
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    layer = component.Config().build(8)
    y = layer(x)
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    torch.testing.assert_close(y[1, 2, 3:5], layer(x[1, 2, 3:5]))


@pytest.mark.parametrize("ffn", ["mlp", "glu"])
@pytest.mark.parametrize("component", BOTH)
def test_a_model_trains_with_it_in_mlp_and_glu(component: Any, ffn: str) -> None:
    model = gptzoo.build({**SMALL, "activation": component.name, "ffn": ffn}).train()
    assert isinstance(model.blocks[0].ffn.activation, component)
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


@pytest.mark.parametrize("component", BOTH)
def test_it_builds_on_the_meta_device_and_has_no_parameters(component: Any) -> None:
    with_it, with_gelu = (
        gptzoo.build({**SMALL, "activation": name}, device="meta").state_dict() for name in (component.name, "gelu")
    )
    assert with_it.keys() == with_gelu.keys()


@pytest.mark.parametrize("component", BOTH)
def test_it_has_no_options(component: Any) -> None:
    with pytest.raises(gptzoo.SpecError, match=rf"\$\.activation\.beta: '{component.name}' has no option 'beta'"):
        gptzoo.load_model_spec({**SMALL, "activation": {"type": component.name, "beta": 2.0}})


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="activations")
    assert entry.load() is gptzoo_activations
    known = gptzoo.registered("activation")
    assert all(known[component.name] is component for component in BOTH)


def test_all_specs_in_the_readme_load() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    snippets = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    assert snippets
    for snippet in snippets:
        gptzoo.load_model_spec({**SMALL, **json.loads(snippet)})
