"""One sequence that is being written, as the processors of logits see it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class TokenSequence:
    """A prompt and what has been written after it."""

    tokens: list[int]
    """Ids, in order: the prompt's, then the new ones."""
    prompt_length: int

    @property
    def new(self) -> list[int]:
        """The ids after the prompt."""
        return self.tokens[self.prompt_length :]
