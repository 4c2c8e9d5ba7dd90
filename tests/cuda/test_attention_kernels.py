"""The kernels that torch chooses for attention on CUDA: none that stores all scores, and not cuDNN with a mask.

The choice is torch's own (aten/src/ATen/native/transformers/cuda/sdp_utils.cpp), which needs no GPU to be known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from support import small, types_with_defaults
from torch import Tensor

import gptzoo
from gptzoo.components.attention import fused_attention
from gptzoo.errors import SpecError

pytestmark = pytest.mark.cuda

LENGTH = 12


class Call(NamedTuple):
    """A call of torch's fused attention."""

    q: Tensor
    k: Tensor
    v: Tensor
    mask: Tensor | None
    is_causal: bool
    cudnn: bool

    def kernel(self) -> str:
        """Return the kernel that torch chooses on a GPU of compute capability 8.0."""
        is_grouped = self.q.shape[-3] != self.k.shape[-3]
        has_width = self.q.shape[-1] % 8 == 0 and self.v.shape[-1] % 8 == 0
        is_flash = self.q.dtype != torch.float32 and self.mask is None and self.q.shape[-1] == self.v.shape[-1] <= 256
        if is_flash and not (self.is_causal and self.q.shape[-2] != self.k.shape[-2]):
            return "flash"
        return "efficient" if has_width and not is_grouped else "math"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    recorded: list[Call] = []
    original = F.scaled_dot_product_attention

    def record(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
        dtype = torch.get_autocast_dtype("cuda") if torch.is_autocast_enabled("cuda") else q.dtype
        cudnn = torch.backends.cuda.cudnn_sdp_enabled()
        arguments = (q.to(dtype), k.to(dtype), v.to(dtype), options.get("attn_mask"), options.get("is_causal", False))
        recorded.append(Call(*arguments, cudnn))
        return original(q, k, v, **options)

    monkeypatch.setattr(F, "scaled_dot_product_attention", record)
    return recorded


def forward_passes(spec: dict[str, Any], *, bf16: bool) -> None:
    """Run a training pass, a prefill and a decode step on CUDA."""
    model = gptzoo.build(spec).cuda()
    tokens = torch.zeros(2, LENGTH, dtype=torch.int64, device="cuda")
    with torch.autocast("cuda", torch.bfloat16, enabled=bf16):
        model.train()(tokens, tokens)
        model.eval()
        states = model.new_states(2, LENGTH, dtype=torch.bfloat16 if bf16 else None)
        with torch.no_grad():
            model(tokens[:, 1:], states=states, no_past=True)
            model(tokens[:, :1], positions=torch.full((1, 1), LENGTH - 1).cuda(), states=states)


ATTENTIONS = {
    "plain": {"type": "sdpa"},
    "grouped": {"type": "sdpa", "n_kv_heads": 2},
    "window": {"type": "sdpa", "window": 3},
    "grouped with a window": {"type": "sdpa", "n_kv_heads": 1, "window": 3},
    "grouped with sinks": {"type": "sdpa", "n_kv_heads": 1, "sinks": True},
    **{name: {"type": name} for name in types_with_defaults("attention") if name != "flex"},  # it has its own kernel
}


@pytest.mark.parametrize("bf16", [True, False])
@pytest.mark.parametrize("attention", ATTENTIONS.values(), ids=ATTENTIONS)
def test_no_attention_stores_all_scores(attention: dict[str, Any], bf16: bool, calls: list[Call]) -> None:
    n_valid = 0
    for positional in types_with_defaults("positional"):
        spec = small(d_model=64, n_layers=1, context_length=LENGTH, attention=attention, positional=positional)
        try:
            gptzoo.load_model_spec(spec)
        except SpecError:
            continue
        n_valid += 1
        forward_passes(spec, bf16=bf16)
    assert n_valid
    assert {call.kernel() for call in calls} <= {"flash", "efficient"}
    assert not any(call.cudnn for call in calls if call.mask is not None)


@pytest.mark.parametrize("length", [64, 128, 192, 300])
def test_gradients_in_bf16_with_a_mask_are_near_those_in_float32(length: int) -> None:
    generator = torch.Generator().manual_seed(length)
    tensors = [torch.randn(2, 4, length, 64, generator=generator) for _ in range(4)]
    distance = torch.arange(length)[:, None] - torch.arange(length)
    mask = ((distance >= 0) & (distance < 50))[None, None]
    gradients = []
    for dtype, device in ((torch.float32, "cpu"), (torch.bfloat16, "cuda")):
        q, k, v = (tensor.to(device, dtype).requires_grad_() for tensor in tensors[:3])
        attend = fused_attention(q, k, v, mask=mask.to(device))
        gradients.append(torch.autograd.grad(attend, (q, k, v), tensors[3].to(device, dtype)))
    for ours, expected in zip(gradients[1], gradients[0], strict=True):
        assert (ours.cpu().float() - expected).norm() < 0.05 * expected.norm()


@pytest.mark.parametrize("n_heads_of_mask", [None, 1, 6])
@pytest.mark.parametrize("n_queries", [1, 5])
def test_grouped_heads_give_the_result_of_repeated_ones(n_queries: int, n_heads_of_mask: int | None) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(2, h, t, 8, generator=generator) for h, t in ((6, n_queries), (2, 5), (2, 5)))
    mask = None if n_heads_of_mask is None else torch.randn(2, n_heads_of_mask, n_queries, 5, generator=generator)
    scores = q @ k.repeat_interleave(3, dim=1).mT / 8**0.5
    expected = (scores if mask is None else scores + mask).softmax(-1) @ v.repeat_interleave(3, dim=1)
    ours = fused_attention(q.cuda(), k.cuda(), v.cuda(), mask=None if mask is None else mask.cuda())
    torch.testing.assert_close(ours.cpu(), expected, rtol=1e-4, atol=1e-4)
