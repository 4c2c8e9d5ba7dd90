"""Speculative decoding: a small model proposes tokens, and the large one checks several of them in one pass.

What comes out has exactly the distribution of the large model alone (Leviathan et al. 2022, Fast Inference from
Transformers via Speculative Decoding, arXiv:2211.17192; Chen et al. 2023, arXiv:2302.01318).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gptzoo.errors import InputError
from gptzoo.model.architecture import Architecture
from gptzoo.sampling.engine.kv_cache_manager import KVCacheManager
from gptzoo.sampling.engine.token_choice import check, distribution, pick, uniforms
from gptzoo.sampling.request import Text, process
from gptzoo.sampling.spec import SamplingSpec


class Proposal(NamedTuple):
    """A token that the draft model proposes."""

    token: int
    weights: Tensor  # (V,) float64, the distribution that it was drawn from


class Draft:
    """A smaller model beside that of an engine, with a row of its own for each of the engine's."""

    def __init__(self, model: Architecture, large: Architecture, n_rows: int, max_length: int):
        """Raises InputError when the two models do not share a vocabulary or cannot be at places of their own."""
        if large.spec.vocab_size != model.spec.vocab_size:
            raise InputError(
                f"the draft model has {model.spec.vocab_size} token ids and the model {large.spec.vocab_size}; "
                "they must share a tokenizer"
            )
        for each in (large, model) if n_rows > 1 else ():
            for attention in each.spec.per_layer("attention"):
                if "padding" not in attention.component.supports:
                    raise InputError(
                        f"attention {attention.type!r} does not honour padding, which speculation needs where rows "
                        "beside each other accept different numbers of tokens: give it one row, or no draft"
                    )
        self.model = model
        self.reader = KVCacheManager(model, n_rows, max_length)

    def seat(self, row: int, text: Text) -> None:
        """Put the prompt of a text, which was primed, into a row."""
        self.reader.seat(row, text.prompt)
        text.n_drafted = text.row.prompt_length

    def propose(self, texts: Sequence[Text]) -> list[list[Proposal]]:
        """What may follow each text: as many tokens as it asks for at most, drawn from its own random stream.

        One less than it may still have, for the large model adds one.
        """
        proposed: list[list[Proposal]] = [[] for _ in texts]
        wanted = [min(text.request.n_ahead, text.n_left - 1) for text in texts]
        lengths = [len(text.row.tokens) for text in texts]
        going = [index for index, n in enumerate(wanted) if n > 0]
        if not going:
            return proposed
        self.reader.mark(len(texts))
        while going:
            unread: list[list[int]] = [[] for _ in texts]
            for index in going:
                text = texts[index]
                unread[index] = text.row.tokens[text.n_drafted :]
                text.n_drafted = len(text.row.tokens)
            logits = self.reader.read(unread)[going, -1].float()
            left, failed = process([texts[index] for index in going], logits)
            weights = distribution(left)
            tokens = pick(weights, uniforms([texts[index].generator for index in going]))
            for place, (index, token) in enumerate(zip(going, tokens, strict=True)):
                if place not in failed:  # else the large model will come to it, if it comes so far
                    proposed[index].append(Proposal(token, weights[place]))
                    texts[index].row.tokens.append(token)
            going = [
                index
                for place, index in enumerate(going)
                if place not in failed
                and len(proposed[index]) < wanted[index]
                and texts[index].endings.reason(texts[index].row) is None
            ]
        for text, length in zip(texts, lengths, strict=True):
            del text.row.tokens[length:]
        return proposed

    def settle(self, texts: Sequence[Text]) -> None:
        """Unread the proposals that have not become part of the texts, which have their new tokens now."""
        right = [min(text.n_drafted, len(text.row.tokens) - 1) for text in texts]  # the last one is new to both models
        self.reader.take_back([text.n_drafted - n for text, n in zip(texts, right, strict=True)])
        for text, n in zip(texts, right, strict=True):
            text.n_drafted = n


def check_reach(draft: Architecture, prompt: Sequence[int], spec: SamplingSpec) -> None:
    """Raise InputError for what a draft model cannot read to its end."""
    try:
        check(draft, [prompt], spec)
    except InputError as error:
        raise InputError(f"the draft model cannot take part: {error}") from None


def verified(left: Tensor, proposals: Sequence[Proposal | None], generators: Sequence[torch.Generator]) -> list[int]:
    """One token for each row by the logits (B, V) that processors have left of the large model's.

    It is the proposal as often as keeps that distribution, and else another token; drawn anew where there is none.
    """
    tokens = []
    numbers = uniforms(generators)
    for p, proposal, number, generator in zip(distribution(left), proposals, numbers, generators, strict=True):
        if proposal is None:
            tokens += pick(p[None], number[None])
            continue
        token, q = proposal
        more = (p - q).clamp(min=0.0)  # what p has more than q had already
        if number * q[token] < p[token] or not more.any():
            tokens.append(token)
        else:
            tokens += pick(more[None], uniforms([generator]))
    return tokens
