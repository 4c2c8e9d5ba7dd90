"""A forward pass computes, and does nothing else: it repeats, leaves no trace, and leaves its input alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gptzoo.component import Config
from gptzoo.components.positional import Positional
from gptzoo.errors import SpecError
from gptzoo.testing.subject import HOST, PartSubject
from gptzoo.testing.verdict import Failed, Skipped


def determinism(subject: PartSubject) -> None:
    """Two forwards are equal bit for bit; in training, gradients too, under one seed of torch."""
    tokens = subject.tokens(2, HOST["context_length"])
    model = subject.model()
    if not torch.equal(_logits(model, tokens), _logits(model, tokens)):
        raise Failed("two forwards in eval mode differ")
    model = subject.model(**subject.with_dropout()).train()
    one, two = (_trained(model, tokens) for _ in range(2))
    for name, gradient in one.items():
        if not torch.equal(gradient, two[name]):
            raise Failed(f"two training steps after torch.manual_seed(0) differ in the {name}")


def modes(subject: PartSubject) -> None:
    """Without dropout, training mode computes what eval mode does; and a training step leaves no trace in the model."""
    model = subject.model(_without_dropout(subject))
    tokens = subject.tokens(2, HOST["context_length"])
    before = _logits(model, tokens)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    if not torch.equal(_logits(model.train(), tokens), before):
        difference = (_logits(model, tokens) - before).abs().max()
        raise Failed(f"with every dropout 0, training and eval mode differ by {difference:.2g}")
    model(tokens, tokens)[1].backward()
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise Failed(f"a forward changes the buffer {name}; state that learns changes in after_update")
    if not torch.equal(_logits(model.eval(), tokens), before):
        raise Failed("after a training step that changed no weight, eval mode computes something else")


def inputs(subject: PartSubject) -> None:
    """It does not write into what it is given, such as the residual stream."""
    model = subject.model()
    written: list[str] = []
    for path, part in subject.parts(model):
        if part is not model:
            for method in _SEAMS if isinstance(part, Positional) else ("forward",):
                _watch(part, method, path, written)
    for tokens in (subject.tokens(2, 5), subject.tokens(1, 1)):
        kept = tokens.clone()
        with torch.no_grad():
            model(tokens)
        if not torch.equal(tokens, kept):
            raise Failed("it writes into the tokens that it is given")
    if written:
        raise Failed(written[0])


_SEAMS = ("embed", "rotate", "bias", "prepare")


def _watch(part: Any, method: str, path: str, written: list[str]) -> None:
    """Wrap a method, so that it notes which of its arguments it changes."""
    original = getattr(part, method)

    def watched(*args: Any, **kwargs: Any) -> Any:
        kept = [arg.clone() if isinstance(arg, Tensor) else None for arg in args]
        result = original(*args, **kwargs)
        for index, (arg, before) in enumerate(zip(args, kept, strict=True)):
            if before is not None and not torch.equal(arg, before):
                written.append(f"{path}.{method} writes into its argument {index}, {tuple(arg.shape)}")
        return result

    setattr(part, method, watched)


def _without_dropout(subject: PartSubject) -> Config:
    """The config with all set to 0 that is random in training, by its name."""
    config, zero = subject.config, {}
    for name in type(config).model_fields:
        if any(word in name for word in ("drop", "noise", "jitter")) and getattr(config, name) is not None:
            zero[name] = 0.0
    try:
        return subject.configure(**zero)
    except SpecError:
        raise Skipped(f"{' and '.join(zero)} cannot be 0") from None


@torch.no_grad()
def _logits(model: Any, tokens: Tensor) -> Tensor:
    return model(tokens)[0]


def _trained(model: Any, tokens: Tensor) -> Mapping[str, Tensor]:
    """The loss and the gradients of one step."""
    model.zero_grad()
    torch.manual_seed(0)
    _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    found = {"loss": loss.detach()}
    return found | {f"gradient of {n}": p.grad for n, p in model.named_parameters() if p.grad is not None}
