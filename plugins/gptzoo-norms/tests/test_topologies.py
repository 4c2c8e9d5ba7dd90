"""Each norm placement compared with its formula, and in a model: cache, padding, training and the model card."""

from __future__ import annotations

import importlib.metadata
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gptzoo_norms
import pytest
import torch
from click.testing import CliRunner
from gptzoo_norms import DeepNorm, ParallelNorm, PeriNorm, ReorderedNorm, SandwichNorm
from torch import Tensor, nn
from torch.nn import functional as F

import gptzoo
from gptzoo.cli import main

SMALL: dict[str, Any] = {"vocab_size": 13, "context_length": 16, "d_model": 32, "n_layers": 2, "n_heads": 4}
TOPOLOGIES: list[Any] = ["reordered", "sandwich", "peri", "parallel", {"type": "parallel", "shared": False}, "deepnorm"]


@pytest.fixture(params=TOPOLOGIES, ids=str)
def norm(request: pytest.FixtureRequest) -> Any:
    return request.param


def model_of(**changes: Any) -> Any:
    """Build a tiny model in which every parameter affects the logits."""
    model = gptzoo.build({**SMALL, **changes}).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            scale = parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 0.3
            parameter.copy_(noise * scale + (parameter.ndim == 1 and name.endswith("weight")))
    return model


def tokens_of(length: int) -> Tensor:
    return torch.randint(13, (2, length), generator=torch.Generator().manual_seed(1))


# ---------------------------------------------------------------------- the formula of a block


def block_formula(norm: Any, n: Callable[[str, Tensor], Tensor], x: Tensor, f: Any, g: Any, n_layers: int) -> Tensor:
    """Compute a block with sublayers f and g by the formula of its paper. `n` normalises with the named weights."""
    if norm == "reordered":
        x = x + n("layers.f", f(x))
        return x + n("layers.g", g(x))
    if norm in ("sandwich", "peri"):
        x = x + n("layers.f", f(n("before.f", x)))
        return x + n("layers.g", g(n("before.g", x)))
    if norm == "parallel":
        return x + f(n("layers.shared", x)) + g(n("layers.shared", x))
    if norm == "deepnorm":
        alpha = (2 * n_layers) ** (1 / 4)
        x = n("layers.f", alpha * x + f(x))
        return n("layers.g", alpha * x + g(x))
    return x + f(n("layers.f", x)) + g(n("layers.g", x))  # parallel with two norms


@pytest.mark.parametrize("n_layers", [2, 7])
def test_a_block_equals_its_formula(norm: Any, n_layers: int) -> None:
    spec = gptzoo.load_model_spec({**SMALL, "norm": norm, "n_layers": n_layers})
    scheme = spec.norm.build(spec.dims, ["f", "g"])
    generator = torch.Generator().manual_seed(0)
    w = {name: torch.randn(p.shape, generator=generator) for name, p in scheme.named_parameters()}
    scheme.load_state_dict(w)

    def f(x: Tensor) -> Tensor:
        return (3 * x).tanh()

    def g(x: Tensor) -> Tensor:
        return x.cos() - x

    def normalise(name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (32,), w[f"{name}.weight"], w[f"{name}.bias"])

    x = torch.randn(2, 5, 32, generator=generator)
    expected = block_formula(norm, normalise, x, f, g, n_layers)
    torch.testing.assert_close(scheme(x, {"f": f, "g": g}), expected)


@pytest.mark.parametrize(
    ("norm", "ends"),
    [
        ("reordered", {"exit"}),
        ("sandwich", {"exit"}),
        ("peri", {"entry", "exit"}),
        ("parallel", {"exit"}),
        ("deepnorm", set()),
    ],
)
def test_the_stack_has_the_entry_and_exit_norms_of_the_paper(norm: str, ends: set[str]) -> None:
    model = model_of(norm=norm)
    assert {end for end in ("entry", "exit") if not isinstance(getattr(model, end), nn.Identity)} == ends
    tokens = tokens_of(9)
    x = model.positionals[0].embed(model.embed(tokens), torch.arange(9)[None])
    for end in ("entry", "blocks", "exit"):
        if end == "blocks":
            context = gptzoo.ForwardContext(torch.arange(9)[None], model.positionals[0], trivially_causal=True)
            for block in model.blocks:
                x = block(x, context).y
        elif end in ends:
            layer = getattr(model, end)
            x = F.layer_norm(x, (32,), layer.weight, layer.bias)
    torch.testing.assert_close(model(tokens)[0], x @ model.embed.weight.T)


def test_peri_equals_sandwich_with_normalised_embeddings() -> None:
    peri, sandwich = model_of(norm="peri"), model_of(norm="sandwich")
    weights = peri.state_dict()
    extra = {name: weights.pop(name) for name in ("entry.weight", "entry.bias")}
    sandwich.load_state_dict(weights)
    sandwich.entry = nn.LayerNorm(32)
    sandwich.entry.load_state_dict({name.partition(".")[2]: value for name, value in extra.items()})
    assert torch.equal(peri(tokens_of(9))[0], sandwich(tokens_of(9))[0])


# ---------------------------------------------------------------------- initial values


@pytest.mark.parametrize(("n_layers", "alpha", "beta"), [(6, 1.861, 0.380), (12, 2.213, 0.319), (100, 3.761, 0.188)])
def test_deepnorm_has_the_constants_of_the_paper_for_decoders(n_layers: int, alpha: float, beta: float) -> None:
    spec = gptzoo.load_model_spec({**SMALL, "norm": "deepnorm", "n_layers": n_layers})
    assert spec.norm.build(spec.dims, ["f"]).alpha == pytest.approx(alpha, abs=1e-3)
    gain = DeepNorm.residual_gain(spec.norm, spec.dims)
    assert gain * 0.02**2 * spec.d_model == pytest.approx(beta**2, abs=1e-3)


@pytest.mark.parametrize(("n_layers", "d_model"), [(4, 128), (12, 64)])
def test_deepnorm_initialises_attention_as_the_paper_and_the_ffn_2_5_times_as_large(
    n_layers: int, d_model: int
) -> None:
    model = gptzoo.build({**SMALL, "norm": "deepnorm", "n_layers": n_layers, "d_model": d_model})
    beta = (8 * n_layers) ** -0.25
    torch.manual_seed(0)
    papers: dict[str, list[Tensor]] = {"attention": [], "ffn": []}
    for _ in range(n_layers):
        value, out = (nn.init.xavier_normal_(torch.empty(d_model, d_model), gain=beta) for _ in range(2))
        up = nn.init.xavier_normal_(torch.empty(4 * d_model, d_model), gain=beta)
        down = nn.init.xavier_normal_(torch.empty(d_model, 4 * d_model), gain=beta)
        papers["attention"].append(out @ value)
        papers["ffn"].append(down @ up)
    ours = {
        "attention": [b.attention.out.weight @ b.attention.qkv.weight.chunk(3)[2] for b in model.blocks],
        "ffn": [b.ffn.down.weight @ b.ffn.up.weight for b in model.blocks],
    }
    for name, factor in (("attention", 1.0), ("ffn", 2.5)):
        ratio = torch.stack(ours[name]).std() / torch.stack(papers[name]).std()
        assert ratio.item() == pytest.approx(factor, rel=0.03)


def gradient_norms(model: Any) -> list[float]:
    """Return the gradient norm of each block, from first to last."""
    tokens = torch.randint(13, (4, 17), generator=torch.Generator().manual_seed(1))
    model(tokens[:, :-1], tokens[:, 1:])[1].backward()
    return [torch.stack([p.grad.norm() for p in block.parameters()]).norm().item() for block in model.blocks]


def test_gradients_of_a_deep_model_vanish_with_post_norm_but_not_with_deepnorm() -> None:
    deep = {**SMALL, "d_model": 64, "n_layers": 24, "ffn": {"type": "mlp", "activation": "relu"}}
    # The first block normalises small initial embeddings, so its gradient is larger.
    norms = gradient_norms(gptzoo.build({**deep, "norm": "deepnorm"}))
    assert all(0 < norm < 1 for norm in norms)
    assert max(norms[1:]) < 1.2 * min(norms[1:])
    assert norms[1] <= norms[0] < 10 * norms[1]

    post = gptzoo.build({**deep, "norm": "post_ln"})  # with Xavier's initialisation
    generator = torch.Generator().manual_seed(0)
    for block in post.blocks:
        attention, ffn = block.attention, block.ffn
        for weight in (*attention.qkv.weight.chunk(3), attention.out.weight, ffn.up.weight, ffn.down.weight):
            nn.init.xavier_normal_(weight, generator=generator)
    norms = gradient_norms(post)
    assert norms[1] < 0.6 * norms[-1]


@pytest.mark.parametrize("norm", ["reordered", "sandwich", "peri"])
def test_layers_before_a_norm_start_at_the_full_standard_deviation(norm: str) -> None:
    block = gptzoo.build({**SMALL, "norm": norm, "n_layers": 8, "d_model": 64}).blocks[0]
    assert block.attention.out.weight.std().item() == pytest.approx(0.02, rel=0.1)
    block = gptzoo.build({**SMALL, "norm": "parallel", "n_layers": 8, "d_model": 64}).blocks[0]
    assert block.attention.out.weight.std().item() == pytest.approx(0.02 / 4, rel=0.1)


# ---------------------------------------------------------------------- models


@torch.inference_mode()
def test_cached_decoding_equals_the_full_forward_pass(norm: Any) -> None:
    model = model_of(norm=norm, positional="rope")
    tokens = tokens_of(12)
    full, _ = model(tokens)
    for sizes in ([1] * 12, [7, 5], [5, 1, 1, 5]):
        states = model.new_states(2, 12)
        parts, first = [], 0
        for size in sizes:
            positions = torch.arange(first, first + size)[None]
            parts.append(model(tokens[:, positions[0]], positions=positions, states=states, no_past=first == 0)[0])
            first += size
        torch.testing.assert_close(torch.cat(parts, dim=1), full, rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_left_padded_sequences_equal_each_sequence_alone(norm: Any) -> None:
    model = model_of(norm=norm)
    tokens = tokens_of(8)
    positions = torch.tensor([[-1, -1, -1, 0, 1, 2, 3, 4], [-1, 0, 1, 2, 3, 4, 5, 6]])
    padded, _ = model(tokens, positions=positions)
    torch.testing.assert_close(padded[:1, 3:], model(tokens[:1, 3:])[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(padded[1:, 1:], model(tokens[1:, 1:])[0], rtol=1e-4, atol=1e-5)


@torch.inference_mode()
def test_bf16_autocast_is_close_to_float32(norm: Any) -> None:
    model = model_of(norm=norm)
    tokens = tokens_of(9)
    with torch.autocast("cpu", torch.bfloat16):
        logits, _ = model(tokens)
    expected, _ = model(tokens)
    assert (logits - expected).abs().max() < 0.05 * expected.abs().max()


def test_gradients_reach_every_parameter(norm: Any) -> None:
    model = model_of(norm=norm)
    tokens = tokens_of(9)
    model(tokens, tokens.roll(-1, 1))[1].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


@pytest.mark.parametrize("layer", ["layernorm", "rmsnorm"])
def test_a_few_training_steps_lower_the_loss(norm: Any, layer: str) -> None:
    options = {"type": norm} if isinstance(norm, str) else norm
    large_init = {"type": "decoder", "init_std": 0.2}  # so that a few steps suffice for all
    model = gptzoo.build(
        {**SMALL, "norm": {**options, "layer": layer}, "architecture": large_init, "tie_embeddings": False}
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


def test_all_norms_of_a_model_are_of_the_configured_layer(norm: Any) -> None:
    options = {"type": norm} if isinstance(norm, str) else norm
    model = gptzoo.build({**SMALL, "norm": {**options, "layer": "rmsnorm"}, "bias": False}, device="meta")
    layer_types = [module.config.type for module in model.modules() if isinstance(module, gptzoo.NormLayer)]
    per_block = {"sandwich": 4, "peri": 4, "parallel": 2 - options.get("shared", True)}.get(options["type"], 2)
    ends = {"deepnorm": 0, "peri": 2}.get(options["type"], 1)
    assert layer_types == ["rmsnorm"] * (2 * per_block + ends)


def card_operations(norm: Any, folder: Path) -> list[str]:
    """Return the operations of a block on the model card, with the indices of their inputs."""
    file = folder / "model.json"
    file.write_text(json.dumps({**SMALL, "norm": norm}))
    card = CliRunner().invoke(main, ["build", str(file), "--json"], catch_exceptions=False)
    (blocks,) = (row for row in json.loads(card.stdout)["stack"] if "operations" in row)
    return [f"{operation['name']} {operation['inputs']}" for operation in blocks["operations"]]


def test_the_model_card_shows_the_operations_of_each_topology(tmp_path: Path) -> None:
    assert card_operations("reordered", tmp_path)[:3] == ["attention [-1]", "norm_layer [0]", "add [-1, 1]"]
    assert card_operations("peri", tmp_path) == card_operations("sandwich", tmp_path)
    assert card_operations("sandwich", tmp_path)[:4] == [
        "norm_layer [-1]",
        "attention [0]",
        "norm_layer [1]",
        "add [-1, 2]",
    ]
    assert card_operations("parallel", tmp_path) == [
        "norm_layer [-1]",
        "attention [0]",
        "add [-1, 1]",
        "ffn [0]",
        "add [2, 3]",
    ]
    assert card_operations({"type": "parallel", "shared": False}, tmp_path)[3:5] == [
        "norm_layer [-1]",
        "ffn [3]",
    ]
    assert card_operations("deepnorm", tmp_path)[:4] == [
        "mul [-1]",
        "attention [-1]",
        "add [0, 1]",
        "norm_layer [2]",
    ]


def test_an_option_of_another_topology_is_refused() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.norm\.shared: 'sandwich' has no option 'shared'"):
        gptzoo.load_model_spec({**SMALL, "norm": {"type": "sandwich", "shared": True}})


def test_the_installed_package_registers_its_components() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="norms")
    assert entry.load() is gptzoo_norms
    known = gptzoo.registered("norm")
    for component in (ReorderedNorm, SandwichNorm, PeriNorm, ParallelNorm, DeepNorm):
        assert known[component.name] is component


def test_all_specs_in_the_readme_load() -> None:
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    snippets = re.findall(r"```json\n(.*?)```", readme, re.DOTALL)
    assert snippets
    for snippet in snippets:
        gptzoo.load_model_spec({**SMALL, **json.loads(snippet)})
