"""Compilation: torch.compile turns a block into one graph that computes the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx

from gptzoo.model.stack import Stack
from gptzoo.testing.compare import FLOAT32_ROUNDING, relative_difference
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed

_LENGTH = 8
_LENGTHS = (_LENGTH, 33, 129)  # each compiled by itself


def check_compiling(subject: ModelPartUnderTest) -> None:
    """Check that `torch.compile` makes one graph of a block, shared by equal blocks, with the same results."""
    torch._dynamo.reset()
    _check_graph_breaks(subject)
    for length in reversed(_LENGTHS):
        torch._dynamo.reset()
        graphs = _check_results(subject, length)
    n_graphs, n_layers = len(graphs), TINY_MODEL["n_layers"]
    torch._dynamo.reset()
    deep_model, tokens = subject.model(n_layers=2 * n_layers).train(), subject.tokens(2, _LENGTH)
    graphs = _compile_blocks(deep_model)
    _logits_and_gradients(deep_model, tokens)
    if len(graphs) > n_graphs:
        raise Failed(
            f"{n_layers} equal layers compile to {n_graphs} graphs, and {2 * n_layers} layers to {len(graphs)}: "
            "a Python number that differs by layer, such as dims.layer, makes one graph per layer"
        )
    torch._dynamo.reset()


def _check_results(subject: ModelPartUnderTest, length: int) -> list[fx.GraphModule]:
    """Compare logits and gradients with and without compilation. Return the graphs of the blocks."""
    model = subject.model(context_length=max(length, TINY_MODEL["context_length"])).train()
    tokens = subject.tokens(2, length)
    expected_logits, expected_gradients = _logits_and_gradients(model, tokens)
    graphs = _compile_blocks(model)
    logits, gradients = _logits_and_gradients(model, tokens)
    if (difference := relative_difference(logits, expected_logits).max()) > FLOAT32_ROUNDING:
        raise Failed(f"compiling the blocks changes the logits of {length} tokens by {difference:.2g}")
    for name, gradient in expected_gradients.items():
        if (difference := relative_difference(gradients[name], gradient).max()) > FLOAT32_ROUNDING * 10:
            raise Failed(
                f"compiling the blocks changes the gradient of {name} over {length} tokens by {difference:.2g}"
            )
    return graphs


def _check_graph_breaks(subject: ModelPartUnderTest) -> None:
    model, tokens = subject.model(), subject.tokens(2, _LENGTH)
    inputs: list[tuple[Any, ...]] = []
    block = model.blocks[0]
    handle = block.register_forward_pre_hook(lambda module, args: inputs.append(args))
    with torch.no_grad():
        model(tokens)
    handle.remove()
    torch._dynamo.reset()
    report = torch._dynamo.explain(block)(*inputs[-1])
    if report.graph_break_count:
        reason = report.break_reasons[0]
        frame = reason.user_stack[-1] if reason.user_stack else None
        location = f"\n  at {frame.filename}:{frame.lineno}: {frame.line}" if frame else ""
        first_line = str(reason.reason).strip().partition("\n")[0]
        raise Failed(f"a block breaks into {report.graph_count} graphs: {first_line}{location}")


def _compile_blocks(model: Stack) -> list[fx.GraphModule]:
    """Compile the blocks in place. Return a list to which every graph is added when it is compiled."""
    graphs: list[fx.GraphModule] = []
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def backend(graph: fx.GraphModule, example_inputs: list[Tensor]) -> Callable[..., Any]:
        graphs.append(graph)
        return aot_eager(graph, example_inputs)

    for block in model.blocks:
        block.compile(backend=backend)
    return graphs


def _logits_and_gradients(model: Stack, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits in eval mode, and the gradients of a training step."""
    model.zero_grad()
    torch.manual_seed(0)
    model(tokens, tokens.roll(-1, 1))[1].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        return model.eval()(tokens)[0], gradients
