"""Attention at size: without the causal mask, and captured weights."""

from __future__ import annotations

import torch
from torch import Tensor

from gptzoo.components.sublayer import AuxiliaryOutputs, SublayerOutput
from gptzoo.model.stack import Stack
from gptzoo.testing.at_size.plan import Sizes
from gptzoo.testing.at_size.search import AtSize
from gptzoo.testing.at_size.trial import Trial
from gptzoo.testing.compare import TOLERANCE, first_difference, relative_difference
from gptzoo.testing.properties.at_size.forward import edge_positions, logits_of
from gptzoo.testing.tiny_model import forward_context
from gptzoo.testing.verdict import Failed, Skipped


def check_noncausal(trial: Trial) -> None:
    """Compare each prefix with causal attention, whose last token sees the same keys, and with padding at its end."""
    if not trial.subject.supports("noncausal"):
        raise Skipped("it does not list noncausal in supports")
    T, model = trial.length, trial.model()
    attention = model.blocks[0].attention
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(trial.batch_size, T, trial.shape.d_model, generator=generator, dtype=torch.float64)

    @torch.no_grad()
    def run(x: Tensor, positions: Tensor, *, causal: bool = False, trivially_causal: bool = False) -> Tensor:
        output = attention(x, forward_context(model, positions, causal=causal, trivially_causal=trivially_causal))
        return output.y if isinstance(output, SublayerOutput) else output

    def positions(n: int) -> Tensor:
        return torch.arange(n)[None]

    causal, both = run(x, positions(T), causal=True), run(x, positions(T))
    difference = relative_difference(run(x, positions(T), trivially_causal=True), both)
    if difference.max() > TOLERANCE:
        raise Failed(
            f"with context.causal False, context.trivially_causal changes the output of {T} tokens by "
            f"{difference.max():.2g}, first at token {first_difference(difference, TOLERANCE)[1]}; it may only "
            "select a faster path"
        )
    for n in [*edge_positions(T), T]:
        output = both if n == T else run(x[:, :n], positions(n))
        difference = relative_difference(output[:, -1:], causal[:, n - 1 : n]).max()
        if difference > TOLERANCE:
            raise Failed(
                f"with context.causal False, the output of the last of {n} tokens in {trial.batch_size} rows differs "
                f"from that with context.causal True by {difference:.2g}, although it attends to the same tokens"
            )
        if n < T:
            padded = torch.where(positions(T) >= n, -1, positions(T))
            difference = relative_difference(run(x, padded)[:, :n], output).max()
            if difference > TOLERANCE:
                raise Failed(
                    f"with context.causal False, {n} tokens followed by {T - n} of padding have outputs that differ "
                    f"from those without padding by {difference:.2g}"
                )


def check_captures(trial: Trial) -> None:
    """Check that capturing changes no logits, and that the weights of a token do not depend on later tokens."""
    if not trial.subject.supports("capture"):
        raise Skipped("it does not list capture in supports")
    model, tokens, T = trial.model(), trial.tokens(), trial.length
    logits, captured = _capture(model, tokens)
    difference = relative_difference(logits, logits_of(model, tokens))
    if difference.max() > TOLERANCE:
        row, token = first_difference(difference, TOLERANCE)
        raise Failed(
            f"capturing its weights changes the logits of {trial.batch_size} rows of {T} tokens by "
            f"{difference.max():.2g}, first at token {token} of row {row}"
        )
    for n in edge_positions(T):
        for name, expected in _capture(model, tokens[:, :n])[1].items():
            difference = relative_difference(captured[name][..., n - 1, :n], expected[..., n - 1, :]).max()
            if difference > TOLERANCE or captured[name][..., n - 1, n:].any():
                raise Failed(
                    f"the weights of token {n - 1} captured as {name} in {trial.batch_size} rows of {T} tokens differ "
                    f"from those in rows of {n} tokens by {difference:.2g}, or are not 0 for later tokens"
                )


@torch.no_grad()
def _capture(model: Stack, tokens: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits, and the captured weights (B, H, T, T) whose keys are the tokens in order."""
    auxiliary = AuxiliaryOutputs()
    logits = model(tokens, capture=["attention"], auxiliary=auxiliary)[0]
    shape = (tokens.shape[1], tokens.shape[1])
    return logits, {
        name: weights
        for name, weights in auxiliary.captures.items()
        if name.endswith(".attention") and tuple(weights.shape[-2:]) == shape
    }


NONCAUSAL = AtSize(check_noncausal, Sizes(share=0.5))
CAPTURES = AtSize(check_captures, Sizes(share=0.4))
