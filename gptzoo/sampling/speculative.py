"""Speculative decoding: a small model proposes tokens, and the large one checks several of them in one pass.

What comes out has exactly the distribution of the large model alone (Leviathan et al. 2022, Fast Inference from
Transformers via Speculative Decoding, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from gptzoo.components.base import Architecture
from gptzoo.data.tokenizers import Tokenizer
from gptzoo.errors import InputError
from gptzoo.sampling.choice import Choice, check
from gptzoo.sampling.endings import Endings
from gptzoo.sampling.processors import build_processors, processed
from gptzoo.sampling.row import Row
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.states import copied
from gptzoo.seeds import derive

Distribution = Callable[[Tensor, Sequence[int]], Tensor]
"""Logits (V,) and the new tokens before -> probabilities (V,) float64."""


def speculative_stream(
    model: Architecture,
    draft: Architecture,
    prompt: Sequence[int],
    spec: SamplingSpec | None = None,
    tokenizer: Tokenizer | None = None,
    *,
    n_ahead: int = 4,
    number: int = 0,
) -> Iterator[Choice]:
    """Yield new tokens of `model` after a prompt, as often as `gptzoo.generate` would write each, drawn from the random
    stream `number` of the seed. The processors of `spec` are applied to both models. Raises InputError.
    """
    spec = spec or SamplingSpec()
    for each in (model, draft):
        check(each, [prompt], spec)
    processors = build_processors(spec.processors, tokenizer)
    endings = Endings(spec, processors, tokenizer)
    row = Row(list(prompt), len(prompt))
    if endings.reason(row) is not None:
        return

    def distribution(logits: Tensor, tokens: Sequence[int]) -> Tensor:
        at = Row([*prompt, *tokens], len(prompt))
        return processed(processors, logits[None].float(), [at])[0].double().softmax(-1).cpu()

    generator = torch.Generator().manual_seed(derive(spec.seed, "sample", number))
    length = spec.max_new_tokens
    for settled in speculate(
        model, draft, prompt, distribution, max_new_tokens=length, n_ahead=n_ahead, generator=generator
    ):
        for choice in settled:
            row.tokens.append(choice.token)
            end = endings.reason(row)
            yield choice._replace(end=end)
            if end is not None:
                return


@torch.inference_mode()
def speculate(
    model: Architecture,
    draft: Architecture,
    prompt: Sequence[int],
    distribution: Distribution,
    *,
    max_new_tokens: int,
    n_ahead: int = 4,
    generator: torch.Generator,
) -> Iterator[list[Choice]]:
    """Yield new tokens of `model` after a prompt, as many at a time as one of its passes has settled, 1 to n_ahead + 1.

    Raises InputError when the two models do not share a vocabulary.
    """
    if model.spec.vocab_size != draft.spec.vocab_size:
        raise InputError(
            f"the draft model has {draft.spec.vocab_size} token ids and the model {model.spec.vocab_size}; "
            "they must share a tokenizer"
        )
    large, small = (_Reader(each, prompt, max_new_tokens) for each in (model, draft))
    tokens: list[int] = []
    while len(tokens) < max_new_tokens:
        large.mark()
        small.mark()
        n_proposed = min(n_ahead, max_new_tokens - len(tokens) - 1)
        proposed: list[int] = []
        expected: list[Tensor] = []  # of the small model, for each proposal
        for _ in range(n_proposed):
            logits = small.read([*tokens, *proposed])[-1]
            expected.append(distribution(logits, [*tokens, *proposed]))
            proposed.append(_draw(expected[-1], generator))
        rows = large.read([*tokens, *proposed])[-n_proposed - 1 :]
        settled = _settle(rows, tokens, proposed, expected, distribution, generator)
        tokens += [choice.token for choice in settled]
        large.back_to(len(tokens) - 1)
        small.back_to(len(tokens) - 1)
        yield settled


def _settle(
    rows: Tensor,
    tokens: Sequence[int],
    proposed: Sequence[int],
    expected: Sequence[Tensor],
    distribution: Distribution,
    generator: torch.Generator,
) -> list[Choice]:
    """The proposals that are accepted, and one token more; rows (n + 1, V) are the large model's logits for each."""
    settled: list[int] = []
    for logits, token, q in zip(rows, proposed, expected, strict=False):
        p = distribution(logits, [*tokens, *settled])
        if torch.rand((), generator=generator, dtype=torch.float64) * q[token] >= p[token]:
            settled.append(_draw((p - q).clamp(min=0.0), generator))  # what p has more than q had already
            break
        settled.append(token)
    else:
        settled.append(_draw(distribution(rows[-1], [*tokens, *settled]), generator))
    scores = rows[: len(settled)].float().log_softmax(-1).cpu()
    return [Choice(token, float(scores[index, token])) for index, token in enumerate(settled)]


def _draw(weights: Tensor, generator: torch.Generator) -> int:
    """A token by its weight, which need not sum to one."""
    cumulative = weights.cumsum(0)
    uniform = torch.rand(1, generator=generator, dtype=torch.float64) * cumulative[-1]
    return int(torch.searchsorted(cumulative, uniform, right=True))


class _Reader:
    """A model that has read a prompt, and reads on from any place behind its last mark."""

    def __init__(self, model: Architecture, prompt: Sequence[int], max_new_tokens: int):
        self.model = model.eval()
        logits, self.states, self.position = model.prime([prompt], max_new_tokens)
        self.logits = logits  # (1, V), after the last token that was read
        self.n_read = 0  # new tokens
        blocks = getattr(model, "blocks", None)
        self.rolls_back = blocks is not None and all(
            getattr(block, name).rolls_back for block, layer in zip(blocks, self.states, strict=True) for name in layer
        )

    def mark(self) -> None:
        """Here `back_to` may come back to."""
        self.marked = self.n_read, self.states, self.logits
        if not self.rolls_back:
            self.states = copied(self.states)
            self.since: list[int] = []

    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read what is new of all the new tokens so far; the logits (1 + n, V) before the first of these and after
        each."""
        fed = list(tokens[self.n_read :])
        rows = self.logits
        if fed:
            device = self.position.device
            positions = self.position + torch.arange(self.n_read, len(tokens), device=device)
            logits, _ = self.model(torch.tensor([fed], device=device), positions=positions, states=self.states)
            rows = torch.cat([rows, logits[0]])
            self.n_read, self.logits = len(tokens), logits[0, -1:]
            if not self.rolls_back:
                self.since += fed
        return rows

    def back_to(self, n: int) -> None:
        """Forget all but the first `n` of the new tokens, if it has read more."""
        if n >= self.n_read:
            return
        if self.rolls_back:  # what was written behind is not seen, and written over
            self.n_read = n
            return
        first, self.states, self.logits = self.marked
        again, self.since, self.n_read = self.since[: n - first], [], first
        self.read([*[0] * first, *again])
