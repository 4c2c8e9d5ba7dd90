"""The results of a model that its ejected file must have, too: on random tokens, in training and at initialisation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import gptzoo
from gptzoo.components.sublayer import AuxiliaryOutputs
from gptzoo.eject.names import ejected_tensors
from gptzoo.eject.runner import sample
from gptzoo.model.decoder import Decoder

SEED = 5
_MAX_LENGTH = 24


def expected_results(model: Decoder, *, padding: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the inputs of the runner, and the results that it should have."""
    generator = torch.Generator().manual_seed(3)
    length = min(_MAX_LENGTH, model.spec.context_length)
    tokens = torch.randint(model.spec.vocab_size or 1, (2, length), generator=generator)
    n_prompt = max(1, length // 3)
    inputs: dict[str, Any] = {"tokens": tokens, "n_new": length - n_prompt, "seed": SEED}
    was_training = model.training
    model.eval()
    with torch.no_grad():
        logits, _ = model(tokens)
        results = {"logits": logits, "greedy": _greedy(model, tokens[:, :n_prompt], length - n_prompt)}
        if padding:
            inputs["positions"] = left_padded(length, n_prompt)
            results |= _padded(model, tokens, inputs["positions"], n_prompt)
    results |= _training_step(model, tokens)
    model.train(was_training)
    return inputs, results


def left_padded(length: int, n_prompt: int) -> Tensor:
    """Return positions (2, T) of a full row and of one that starts with padding, which is shorter than the prompt."""
    n_padding = n_prompt // 2
    return torch.stack([torch.arange(length), torch.arange(length) - n_padding]).clamp(min=-1)


def initial_values(model: Decoder) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a sample of the values of each tensor of the state dict, as initialised with one seed and with another."""
    fresh = gptzoo.build(model.spec, seed=1)
    samples = []
    for seed in (1, 2):
        gptzoo.initialise(fresh, seed=seed)
        samples.append(ejected_tensors({name: sample(t) for name, t in fresh.state_dict().items()}, model))
    return samples[0], samples[1]


def _greedy(model: Decoder, prompt: Tensor, n_new: int) -> Tensor:
    states = model.new_states(prompt.shape[0], prompt.shape[1] + n_new)
    logits, _ = model(prompt, states=states, no_past=True)
    new: list[Tensor] = []
    for _ in range(n_new):
        new.append(logits[:, -1].argmax(-1, keepdim=True))
        position = torch.tensor([[prompt.shape[1] + len(new) - 1]])
        logits, _ = model(new[-1], positions=position, states=states)
    return torch.cat(new, dim=1) if new else prompt[:, :0]


def _padded(model: Decoder, tokens: Tensor, positions: Tensor, n_prompt: int) -> dict[str, Tensor]:
    """Return the logits of a padded batch, whole and with a cache: a prompt, and then token by token."""
    whole, _ = model(tokens, positions=positions)
    states = model.new_states(*tokens.shape)
    starts = [0, *range(n_prompt, tokens.shape[1])]
    ends = [*starts[1:], tokens.shape[1]]
    cached = [
        model(tokens[:, start:end], positions=positions[:, start:end], states=states)[0]
        for start, end in zip(starts, ends, strict=True)
    ]
    return {"padded": whole, "padded_cached": torch.cat(cached, dim=1)}


def _training_step(model: Decoder, tokens: Tensor) -> dict[str, Any]:
    model.train()
    torch.manual_seed(SEED)
    model.zero_grad()
    _, loss = model(tokens[:, :-1], tokens[:, 1:], auxiliary=AuxiliaryOutputs())
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return {"loss": loss.detach(), "gradients": ejected_tensors(gradients, model)}
