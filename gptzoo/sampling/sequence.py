"""`TokenSequence`: the tokens of one text while it is generated."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TokenSequence:
    """A prompt and the tokens generated after it. Logits processors receive one for each row of a batch."""

    tokens: list[int]
    """Token ids, in order: the prompt, then the new tokens."""
    prompt_length: int

    @property
    def new(self) -> list[int]:
        """The tokens after the prompt."""
        return self.tokens[self.prompt_length :]

    @property
    def n_new(self) -> int:
        """The number of tokens after the prompt."""
        return len(self.tokens) - self.prompt_length
