"""The options of multi-head attention against a plain computation, token by token, in float64."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import gptzoo
from gptzoo import registry

D_MODEL, N_HEADS, D_HEAD, LENGTH = 16, 4, 6, 9
SPEC: dict[str, Any] = {
    "vocab_size": 13,
    "context_length": 16,
    "d_model": D_MODEL,
    "n_layers": 1,
    "n_heads": N_HEADS,
    "d_head": D_HEAD,
    "positional": "none",
}


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def attend_plainly(attention: Any, x: Tensor, options: dict[str, Any]) -> Tensor:
    """Compute attention of (T, C) with loops over heads and tokens."""
    n_kv_heads = options.get("n_kv_heads", N_HEADS)
    qkv = x @ attention.qkv.weight.T + attention.qkv.bias
    q, k, v = qkv.split([N_HEADS * D_HEAD, n_kv_heads * D_HEAD, n_kv_heads * D_HEAD], dim=-1)
    over = options.get("qk_norm_over")
    if over == "heads":
        q, k = rms_norm(q, attention.q_norm.weight), rms_norm(k, attention.k_norm.weight)
    outputs = []
    for head in range(N_HEADS):
        kv_head = head // (N_HEADS // n_kv_heads)
        q_h, k_h, v_h = (t[:, h * D_HEAD : (h + 1) * D_HEAD] for t, h in ((q, head), (k, kv_head), (v, kv_head)))
        if over == "each_head":
            q_h = rms_norm(q_h, attention.q_norm[head].weight)
            k_h = rms_norm(k_h, attention.k_norm[kv_head].weight)
        if clip := options.get("clip"):
            q_h, k_h, v_h = (t.clamp(-clip, clip) for t in (q_h, k_h, v_h))
        rows = []
        for t in range(LENGTH):
            first = max(0, t + 1 - options.get("window", LENGTH))
            scores = [float(q_h[t] @ k_h[s]) * options.get("scale", D_HEAD**-0.5) for s in range(first, t + 1)]
            if cap := options.get("softcap"):
                scores = [cap * math.tanh(score / cap) for score in scores]
            sink = math.exp(float(attention.sinks[head])) if options.get("sinks") else 0.0
            total = sum(map(math.exp, scores)) + sink
            rows.append(sum(math.exp(score) / total * v_h[first + i] for i, score in enumerate(scores)))
        outputs.append(torch.stack(rows))
    y = torch.cat(outputs, dim=-1)
    if options.get("gate"):
        y = y * torch.sigmoid(x @ attention.gate.weight.T + attention.gate.bias)
    return y @ attention.out.weight.T + attention.out.bias


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scale": 0.9},
        {"clip": 0.2},
        {"gate": True},
        {"softcap": 0.5},
        {"sinks": True},
        {"qk_norm": "rmsnorm", "qk_norm_over": "heads"},
        {"qk_norm": "rmsnorm", "qk_norm_over": "each_head", "n_kv_heads": 2},
        {"sinks": True, "softcap": 1.0, "gate": True, "clip": 0.3, "scale": 0.4, "window": 4, "n_kv_heads": 1},
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["naive", "sdpa"])
def test_attention_equals_a_plain_computation(name: str, options: dict[str, Any]) -> None:
    model = gptzoo.build({**SPEC, "attention": {"type": name, **options}}).double().eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator, dtype=torch.float64) * 0.5)
    attention = model.blocks[0].attention
    inputs = []
    attention.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    outputs = []
    attention.register_forward_hook(lambda _, args, output: outputs.append(output))
    with torch.no_grad():
        model(torch.arange(LENGTH)[None])
        torch.testing.assert_close(outputs[0][0], attend_plainly(attention, inputs[0][0], options))


def test_heads_of_another_width_are_refused_by_an_attention_that_does_not_support_them(tmp_path: Path) -> None:
    (tmp_path / "fixed_width.py").write_text(
        "import gptzoo\n"
        "class FixedWidth(gptzoo.Attention):\n"
        "    '''An attention whose heads divide the width of the model.'''\n"
        "    name = 'fixed_width_in_a_test'\n"
        "@gptzoo.hookimpl\n"
        "def gptzoo_components():\n"
        "    return [FixedWidth]\n"
    )
    spec = {**SPEC, "attention": ["sdpa", "fixed_width_in_a_test"], "n_layers": 2}
    with registry.use(registry.discover(selection="none")):
        gptzoo.load_plugin(tmp_path / "fixed_width.py")
        with pytest.raises(gptzoo.SpecError, match=r"\$\.d_head: 4 heads of width 6 .*'fixed_width_in_a_test'"):
            gptzoo.load_model_spec(spec)
        assert gptzoo.load_model_spec({**spec, "d_head": 4}).dims.d_head == 4


def test_a_head_width_that_is_the_default_is_no_other_model() -> None:
    default = gptzoo.load_model_spec({**SPEC, "d_head": None})
    assert gptzoo.load_model_spec({**SPEC, "d_head": D_MODEL // N_HEADS}) == default


def test_heads_need_not_divide_the_width_if_their_own_is_given() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.n_heads: must divide d_model 16, got 3"):
        gptzoo.load_model_spec({**SPEC, "n_heads": 3, "d_head": None})
    assert gptzoo.load_model_spec({**SPEC, "n_heads": 3}).dims.d_head == D_HEAD


def test_an_extent_of_a_norm_that_does_not_exist_is_refused() -> None:
    with pytest.raises(gptzoo.SpecError, match=r"\$\.attention\.qk_norm_over: has no effect without qk_norm"):
        gptzoo.load_model_spec({**SPEC, "attention": {"type": "sdpa", "qk_norm_over": "heads"}})
