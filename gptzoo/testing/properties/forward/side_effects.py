"""Side effects: a forward pass is deterministic, changes no buffer, and does not write to its inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from gptzoo.component import Config
from gptzoo.components.context import ForwardContext
from gptzoo.components.positional import Positional
from gptzoo.errors import SpecError
from gptzoo.model.stack import Stack
from gptzoo.testing.component_under_test import ModelPartUnderTest
from gptzoo.testing.tiny_model import TINY_MODEL
from gptzoo.testing.verdict import Failed, Skipped

_POSITIONAL_METHODS = ("embed", "rotate", "bias", "prepare")


def check_determinism(subject: ModelPartUnderTest) -> None:
    """Check that two forward passes are equal bit for bit, and so are two training steps with one seed."""
    tokens = subject.tokens(2, TINY_MODEL["context_length"])
    model = subject.model()
    if not torch.equal(_logits(model, tokens), _logits(model, tokens)):
        raise Failed("two forward passes in eval mode differ")
    model = subject.model(**subject.dropout_fields())
    model.train()
    first, second = (_loss_and_gradients(model, tokens) for _ in range(2))
    for name, tensor in first.items():
        if not torch.equal(tensor, second[name]):
            raise Failed(f"two training steps after torch.manual_seed(0) differ in the {name}")


def check_training_matches_eval(subject: ModelPartUnderTest) -> None:
    """Check that training and eval mode compute the same without dropout, and a forward pass changes no buffer."""
    model = subject.model(without_dropout(subject, subject.config))
    tokens = subject.tokens(2, TINY_MODEL["context_length"])
    before = _logits(model, tokens)
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    if not torch.equal(_logits(model.train(), tokens), before):
        difference = (_logits(model, tokens) - before).abs().max()
        raise Failed(f"with every dropout 0, the logits in training and eval mode differ by {difference:.2g}")
    model(tokens, tokens)[1].backward()
    for name, buffer in model.named_buffers():
        if not torch.equal(buffer, buffers[name]):
            raise Failed(f"a forward pass changes the buffer {name}; update it in after_optimizer_step instead")
    if not torch.equal(_logits(model.eval(), tokens), before):
        raise Failed("the logits in eval mode change after a training step that changes no weight and no buffer")


def check_inputs_not_modified(subject: ModelPartUnderTest) -> None:
    """Check that the component does not write to its inputs, such as the residual stream."""
    if findings := record_writes_to_inputs(
        subject, subject.model(), [{"tokens": subject.tokens(2, 5)}, {"tokens": subject.tokens(1, 1)}]
    ):
        raise Failed(findings[0])


def record_writes_to_inputs(
    subject: ModelPartUnderTest, model: Stack, batches: Sequence[Mapping[str, Tensor]]
) -> list[str]:
    """Return what the instances of the component in a model write to, in forward passes over some batches."""
    findings: list[str] = []
    for path, module in subject.instances(model):
        if module is not model:
            for method in _POSITIONAL_METHODS if isinstance(module, Positional) else ("forward",):
                _record_input_changes(module, method, path, findings)
    for inputs in batches:
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        with torch.no_grad():
            model(inputs["tokens"], **{name: tensor for name, tensor in inputs.items() if name != "tokens"})
        for name, tensor in inputs.items():
            if not torch.equal(tensor, before[name]):
                findings.append(f"a forward pass writes to its input {name} of shape {tuple(tensor.shape)}")
    return findings


def _record_input_changes(module: nn.Module, method: str, path: str, findings: list[str]) -> None:
    """Wrap a method so that every change of one of its tensor arguments is added to `findings`."""
    original = getattr(module, method)

    def wrapper(*args: object, **kwargs: object) -> object:
        before = [[(name, tensor, tensor.clone()) for name, tensor in _input_tensors(arg)] for arg in args]
        result = original(*args, **kwargs)
        for index, tensors in enumerate(before):
            for name, tensor, copy in tensors:
                if not torch.equal(tensor, copy):
                    findings.append(
                        f"{path}.{method} writes to its argument {index}{name} of shape {tuple(tensor.shape)}"
                    )
        return result

    setattr(module, method, wrapper)


def _input_tensors(argument: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an argument that a component may read but not write, each with its name in the argument."""
    if isinstance(argument, Tensor):
        yield "", argument
    elif isinstance(argument, ForwardContext):
        for field in fields(argument):
            if field.name != "memo":
                for tensor in tree_leaves(getattr(argument, field.name)):
                    if isinstance(tensor, Tensor):
                        yield f", context.{field.name},", tensor


def without_dropout(subject: ModelPartUnderTest, config: Config) -> Config:
    """Return a config with every option set to 0 whose name says dropout, noise or jitter, in nested configs too."""
    zeros = _zero_dropout(config)
    try:
        return subject.configure(**{**config.model_dump(mode="json", exclude_unset=True), **zeros})
    except SpecError:
        raise Skipped(f"{' and '.join(zeros)} cannot be 0") from None


def _zero_dropout(config: BaseModel) -> dict[str, Any]:
    """Return the options to change, as JSON."""
    changes: dict[str, Any] = {}
    for name, value in config:
        if any(word in name for word in ("drop", "noise", "jitter")) and value is not None:
            changes[name] = 0.0
        elif isinstance(value, BaseModel) and (nested := _zero_dropout(value)):
            is_set = name in config.model_fields_set
            dumped = config.model_dump(mode="json", include={name}, exclude_unset=is_set)[name]
            changes[name] = {**({"type": dumped} if isinstance(dumped, str) else dumped), **nested}
    return changes


@torch.no_grad()
def _logits(model: Stack, tokens: Tensor) -> Tensor:
    return model(tokens)[0]


def _loss_and_gradients(model: Stack, tokens: Tensor) -> Mapping[str, Tensor]:
    model.zero_grad()
    torch.manual_seed(0)
    _, loss = model(tokens, tokens.roll(-1, 1))
    loss.backward()
    gradients = {f"gradient of {name}": p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients}
