"""A comparison of a model on CUDA with the same model on the CPU, in training and in decoding."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import torch
from host_waits import recorded_host_waits
from support import tokens_of, with_large_weights
from torch import Tensor

import gptzoo

LENGTH = 9
WAITING_PARTS = ("moe",)  # parts that wait for a GPU, once in each layer, to know which expert gets which tokens
_TOLERANCE = 1e-3


def check_on_cuda(spec: dict[str, Any]) -> None:
    """Raise AssertionError unless the model computes on CUDA what it computes on the CPU, without waits of the host."""
    model_spec = gptzoo.load_model_spec({**spec, "dropout": 0.0})
    on_cpu, on_cuda = (with_large_weights(gptzoo.build(model_spec)) for _ in range(2))
    on_cuda.to("cuda")
    has_waits = any(config.type in WAITING_PARTS for config in model_spec.per_layer("ffn"))
    allowed = model_spec.n_layers if has_waits else 0
    check_training(on_cpu, on_cuda, allowed)
    check_decoding(on_cpu, on_cuda, allowed)
    check_bf16_step(on_cuda)


def check_training(on_cpu: Any, on_cuda: Any, allowed_waits: int) -> None:
    tokens = tokens_of(on_cpu, 2, LENGTH)
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    _, expected = on_cpu.train()(inputs, targets)
    expected.backward()
    inputs, targets = inputs.cuda(), targets.cuda()
    with recorded_host_waits() as waits:
        _, loss = on_cuda.train()(inputs, targets)
    check_waits(waits, allowed_waits)
    loss.backward()
    close(loss, expected)
    for (name, parameter), other in zip(on_cuda.named_parameters(), on_cpu.parameters(), strict=True):
        assert (parameter.grad is None) == (other.grad is None), name
        if parameter.grad is not None:
            assert parameter.grad.is_cuda
            error = (parameter.grad.cpu() - other.grad).norm() / (other.grad.norm() + 1e-4)
            assert error < _TOLERANCE, f"the gradient of {name} differs by {error:.1e}"


def check_decoding(on_cpu: Any, on_cuda: Any, allowed_waits: int) -> None:
    tokens = tokens_of(on_cpu, 2, LENGTH)
    with torch.inference_mode():
        expected, _ = on_cpu.eval()(tokens)
        states = on_cuda.eval().new_states(2, LENGTH)
        chunks = [slice(0, 5), slice(5, 8), slice(8, LENGTH)]
        arguments = [(tokens[:, chunk].cuda(), torch.arange(LENGTH)[None, chunk].cuda()) for chunk in chunks]
        with recorded_host_waits() as waits:
            logits = [
                on_cuda(part, positions=positions, states=states, no_past=index == 0)[0]
                for index, (part, positions) in enumerate(arguments)
            ]
    check_waits(waits, allowed_waits * len(chunks))
    close(torch.cat(logits, dim=1), expected)


def check_bf16_step(on_cuda: Any) -> None:
    on_cuda.train().zero_grad()
    optimizer = torch.optim.AdamW(on_cuda.parameters(), fused=True)
    tokens = tokens_of(on_cuda, 2, LENGTH)
    with torch.autocast("cuda", torch.bfloat16):
        _, loss = on_cuda(tokens[:, :-1], tokens[:, 1:])
    loss.backward()
    optimizer.step()
    assert all(parameter.isfinite().all() for parameter in on_cuda.parameters())


def documented_waits(subject: str) -> int:
    """Return the number of waits that docs/performance.md gives for a subject, such as "training step"."""
    text = (Path(__file__).parents[2] / "docs" / "performance.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith(f"| {subject} "))
    return int(row.split("|")[2])


def check_waits(waits: Counter[str], allowed: int) -> None:
    assert waits.total() <= allowed, f"the host waits for the GPU {waits.total()} times, not {allowed}: {dict(waits)}"


def close(on_cuda: Tensor, on_cpu: Tensor) -> None:
    assert on_cuda.is_cuda
    torch.testing.assert_close(on_cuda.cpu(), on_cpu, rtol=_TOLERANCE, atol=_TOLERANCE)
