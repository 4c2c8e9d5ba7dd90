"""torch.compile takes a block whole, and what it makes of it computes the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gptzoo.testing.compare import ROUNDING, distance
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed

LENGTH = 8


def compiling(subject: PartSubject) -> None:
    """Each block compiles to one graph, equal blocks share it, and outputs and gradients stay what they were."""
    torch._dynamo.reset()
    _no_break(subject)
    model, tokens = subject.model().train(), subject.tokens(2, LENGTH)
    expected, gradients = _run(model, tokens)
    graphs = _compile(model)
    logits, compiled = _run(model, tokens)
    if (difference := distance(logits, expected).max()) > ROUNDING:
        raise Failed(f"compiled, its blocks give other logits, off by {difference:.2g}")
    for name, gradient in gradients.items():
        if (difference := distance(compiled[name], gradient).max()) > ROUNDING * 10:
            raise Failed(f"compiled, its blocks give {name} another gradient, off by {difference:.2g}")
    shallow = len(graphs)
    torch._dynamo.reset()
    deep = subject.model(n_layers=2 * HOST["n_layers"]).train()
    graphs = _compile(deep)
    _run(deep, tokens)
    if len(graphs) > shallow:
        raise Failed(
            f"{HOST['n_layers']} equal layers compile to {shallow} graphs and {2 * HOST['n_layers']} to {len(graphs)}: "
            "a Python number that differs by layer, such as dims.layer, makes each a graph of its own"
        )
    torch._dynamo.reset()


def _no_break(subject: PartSubject) -> None:
    model, tokens = subject.model(), subject.tokens(2, LENGTH)
    seen: dict[str, Any] = {}
    block = model.blocks[0]
    handle = block.register_forward_pre_hook(lambda module, args: seen.update(args=args))
    with torch.no_grad():
        model(tokens)
    handle.remove()
    torch._dynamo.reset()
    report = torch._dynamo.explain(block)(*seen["args"])
    if report.graph_break_count:
        reason = report.break_reasons[0]
        frame = reason.user_stack[-1] if reason.user_stack else None
        at = f"\n  at {frame.filename}:{frame.lineno}: {frame.line}" if frame else ""
        first = str(reason.reason).strip().partition("\n")[0]
        raise Failed(f"a block breaks into {report.graph_count} graphs: {first}{at}")


def _compile(model: Any) -> list[Any]:
    """Compile the blocks in place; the list grows by each graph that is made."""
    graphs: list[Any] = []
    aot_eager = torch._dynamo.lookup_backend("aot_eager")

    def backend(graph: Any, example: Any) -> Any:
        graphs.append(graph)
        return aot_eager(graph, example)

    for block in model.blocks:
        block.compile(backend=backend)
    return graphs


def _run(model: Any, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The logits in eval mode, and the gradients of a training step."""
    model.zero_grad()
    torch.manual_seed(0)
    model(tokens, tokens.roll(-1, 1))[1].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    with torch.no_grad():
        return model.eval()(tokens)[0], gradients
