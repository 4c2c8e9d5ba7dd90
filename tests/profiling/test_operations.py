"""FLOPs and bytes of single operations, against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from gptzoo.profiling.operations import CountOperations


def counted(call: Callable[[], object]) -> tuple[int, int]:
    with CountOperations() as counter:
        call()
    return sum(o.flops for o in counter.operations), sum(o.n_bytes for o in counter.operations)


A, B = torch.randn(3, 5), torch.randn(5, 7)
TABLE, IDS = torch.randn(100, 4), torch.tensor([[1, 2, 3]])


@pytest.mark.parametrize(
    ("call", "n_flops", "n_bytes"),
    [
        (lambda: A @ B, 2 * 3 * 5 * 7, 4 * (15 + 35 + 21)),
        (lambda: A + A, 0, 4 * 3 * 15),
        (lambda: A.clone().mul_(2), 0, 4 * (2 * 15 + 2 * 15)),
        (lambda: A.t()[1:].unsqueeze(0), 0, 0),
        (lambda: torch.empty(9), 0, 0),
        (lambda: torch.zeros_like(A), 0, 4 * 15),
        (lambda: F.embedding(IDS, TABLE), 0, 4 * 2 * 12 + 8 * 3),  # three rows of the table, not all of it
        (lambda: A.bfloat16(), 0, (4 + 2) * 15),
        (lambda: A[:1].expand(3, 5) * 1.0, 0, 4 * (5 + 15)),  # an expanded row is read once
    ],
    ids=["product", "sum", "in place", "views", "empty", "zeros_like", "embedding", "cast", "expanded"],
)
def test_the_work_of_one_operation(call: Callable[[], object], n_flops: int, n_bytes: int) -> None:
    assert counted(call) == (n_flops, n_bytes)


@pytest.mark.parametrize("n_kv_heads", [4, 2], ids=["plain", "grouped"])
def test_the_products_of_fused_attention_and_its_backward_pass(n_kv_heads: int) -> None:
    q = torch.randn(2, 4, 6, 8, requires_grad=True)
    k, v = (torch.randn(2, n_kv_heads, 6, 8, requires_grad=True) for _ in range(2))
    one_product = 2 * (2 * 4) * 6 * 6 * 8
    outputs: list[Tensor] = []

    def forward() -> None:
        outputs.append(F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=n_kv_heads < 4))

    assert counted(forward)[0] == 2 * one_product
    assert counted(lambda: outputs[0].sum().backward())[0] == 5 * one_product  # the scores are computed again


def test_the_work_of_an_optimizer_step() -> None:
    parameter = torch.nn.Parameter(torch.randn(10, 10))
    parameter.grad = torch.randn(10, 10)
    optimizer = torch.optim.SGD([parameter], lr=0.1, fused=True)
    assert counted(optimizer.step) == (0, 4 * 100 * 3)  # reads weights and gradients, writes weights
