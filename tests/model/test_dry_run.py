"""Dry runs: the FLOPs and bytes of a training step without values."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from support import HYBRIDS, admit, small, tokens_of
from torch import nn

import gptzoo
from gptzoo.model import dry_run as dry_run_module
from gptzoo.model.build import build_on_meta
from gptzoo.model.decoder import Decoder
from gptzoo.model.dry_run import DryRun, count_bytes, count_flops, dry_run

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "memory.py"
ATTENTIONS = {
    "naive": "naive",
    "sdpa": "sdpa",
    "grouped": {"type": "sdpa", "n_kv_heads": 2},
    "windowed": {"type": "sdpa", "window": 3},
}


def run_dry(spec: Any, *, n_parameters: int | None = None, **settings: Any) -> DryRun:
    if n_parameters is None:
        n_parameters = sum(parameter.numel() for parameter in build_on_meta(spec).parameters())
    return dry_run(spec, n_parameters, **{"batch_size": 2, "sequence_length": 8, "precision": "fp32", **settings})


def largest(counts: DryRun) -> DryRun:
    """Replace both peaks by their maximum: the boundary between them depends on rounding."""
    peak = max(counts.early_peak_bytes, counts.late_peak_bytes)
    return counts._replace(early_peak_bytes=peak, late_peak_bytes=peak)


# ---------------------------------------------------------------------- operations


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize("changes", [{}, {"ffn": "glu", "positional": "rope"}, {"tie_embeddings": False}])
def test_flops_are_those_of_the_closed_form(attention: Any, changes: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(small(attention=attention, **changes))
    model, length = build_on_meta(spec), 8
    in_products = [module.weight.numel() for module in model.modules() if isinstance(module, nn.Linear)]
    head = spec.dims.vocab_size * spec.d_model
    per_token = 2 * (sum(in_products) + head) + 4 * length * spec.d_model * spec.n_layers
    _, forward, training = count_flops(spec, length)
    assert forward == length * per_token
    assert training == 3 * forward


@pytest.mark.parametrize("positional", ["none", "rope", "learned"])
@pytest.mark.parametrize("options", [{}, {"n_kv_heads": 1}, {"window": 3}, {"qk_norm": "rmsnorm"}])
def test_fused_and_naive_attention_have_equal_flops(positional: str, options: dict[str, Any]) -> None:
    naive, fused = (
        count_flops(gptzoo.load_model_spec(small(positional=positional, attention={"type": name, **options})), 8)
        for name in ("naive", "sdpa")
    )
    assert naive == fused


# ---------------------------------------------------------------------- depth


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes", [{"vocab_size": 5000}, {"attention": "naive", "dropout": 0.1, "bias": False}, *HYBRIDS.values()]
)
def test_extrapolated_counts_of_a_deep_model_equal_those_at_full_depth(changes: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec({**small(), **changes, "n_layers": 13})
    assert largest(run_dry(spec)) == largest(run_dry(spec, n_parameters=-1))


def test_a_deep_model_is_not_run_at_full_depth(monkeypatch: pytest.MonkeyPatch) -> None:
    depths = []

    def counted(spec: Any, sequence_length: int) -> tuple[int, int, int]:
        depths.append(spec.n_layers)
        return count_flops(spec, sequence_length)

    monkeypatch.setattr(dry_run_module, "count_flops", counted)
    run_dry(gptzoo.load_model_spec(small(n_layers=96)))
    assert depths == [2, 3]


class Growing(Decoder):
    """From the fourth on, each layer has a wider matrix than the one before."""

    name = "growing"

    def __init__(self, config: Any, spec: Any):
        super().__init__(config, spec)
        self.extra = nn.ModuleList(nn.Linear(8, layer, bias=False) for layer in range(3, spec.n_layers))

    def forward(self, tokens: Any, targets: Any = None, **options: Any) -> Any:
        for extra in self.extra:
            extra(extra.weight.new_zeros(5, 8))
        return super().forward(tokens, targets, **options)


@pytest.mark.usefixtures("fresh_registry")
def test_a_model_whose_layers_do_not_repeat_is_run_at_full_depth() -> None:
    admit(Growing)
    regular = gptzoo.load_model_spec(small(n_layers=9))
    growing = gptzoo.load_model_spec(small(n_layers=9, architecture="growing"))
    more = run_dry(growing).forward_flops - run_dry(regular).forward_flops
    assert more == sum(2 * 5 * 8 * layer for layer in range(3, 9))


# ---------------------------------------------------------------------- bytes


@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_activations_equal_those_of_a_real_forward_pass(attention: Any, dropout: float) -> None:
    spec = gptzoo.load_model_spec(small(context_length=64, attention=attention, dropout=dropout))
    activations, _, _ = count_bytes(spec, 2, 64, "fp32")
    model = gptzoo.build(spec).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    tokens = tokens_of(model, 2, 64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _, loss = model(tokens, tokens.clone())
    assert loss.requires_grad  # keeps the graph, and with it every storage in `kept`, alive
    assert sum(kept.values()) == pytest.approx(activations, rel=0.01)


def test_the_early_peak_has_activations_and_the_late_peak_has_gradients() -> None:
    spec = gptzoo.load_model_spec(small())
    counts = run_dry(spec)
    assert counts.early_peak_bytes > counts.activation_bytes
    assert counts.late_peak_bytes >= 4 * counts.n_parameters


def test_a_chunked_loss_keeps_the_logits_of_one_chunk() -> None:
    spec = gptzoo.load_model_spec(small(vocab_size=50_000, context_length=1024))
    whole_logits = 4 * 4 * 1024 * 50_000
    counts = run_dry(spec, batch_size=4, sequence_length=1024)
    assert counts.early_peak_bytes < whole_logits / 2


def test_bf16_needs_less_memory_than_fp32() -> None:
    spec = gptzoo.load_model_spec(small(context_length=256))
    half, full = (run_dry(spec, sequence_length=256, precision=p).activation_bytes for p in ("bf16", "fp32"))
    assert half < 0.8 * full


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("overrides", [[], ["attention=naive", "dropout=0.1"]])
def test_training_needs_as_much_memory_as_estimated(overrides: list[str]) -> None:
    benchmark = runpy.run_path(str(BENCHMARK))
    row = benchmark["run_in_subprocess"](("tiny", 12, 256, overrides), benchmark["EAGER_FREE"])
    assert 0.85 < row["ratio"] < 1.15
