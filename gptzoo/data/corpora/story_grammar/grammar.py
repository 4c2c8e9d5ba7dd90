"""`Teller` throws the dice and gathers sentences; people and things know their pronouns and articles."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from gptzoo.data.corpora.story_grammar import words

T = TypeVar("T")


def with_article(name: str) -> str:
    return ("an " if name[0].lower() in "aeiou" else "a ") + name


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


# A sentence starts the text or follows another, speech also a colon. After `?"` or `!"` may come who speaks.
_SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." "?|[!?]" "|: ")([a-z])')


def sentences(text: str) -> str:
    """The text with a capital at the start of each sentence, spoken ones too."""
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def listing(items: Sequence[object]) -> str:
    """`x, y and z`."""
    names = [str(item) for item in items]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


@dataclass(frozen=True)
class Person:
    """Somebody in a story, with the pronouns to call them by; as text, the name."""

    name: str
    he: str

    def __str__(self) -> str:
        return self.name

    @property
    def him(self) -> str:
        return "her" if self.he == "she" else "him"

    @property
    def his(self) -> str:
        return "her" if self.he == "she" else "his"

    @property
    def child(self) -> str:
        return "girl" if self.he == "she" else "boy"


@dataclass(frozen=True)
class Thing:
    """Something that can be carried; as text, its name without an article."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def a(self) -> str:
        return with_article(self.name)

    @property
    def the(self) -> str:
        return f"the {self.name}"


class Teller:
    """One story in the making. The same seed tells the same story on every machine and version of Python."""

    def __init__(self, seed: int):
        # random() is the one method that Python promises never to change; choice and shuffle did.
        self._random = random.Random(seed).random
        self._paragraphs: list[list[str]] = []
        self.pocket: list[Thing] = []  # what was picked up on the way, in order

    # ------------------------------------------------------------------ dice

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones, in random order."""
        chosen: dict[int, T] = {}
        while len(chosen) < count:
            index = int(self._random() * len(options))
            chosen[index] = options[index]
        return list(chosen.values())

    # ------------------------------------------------------------------ who and what

    def people(self, count: int) -> list[Person]:
        """Children with different names."""
        girls = len(words.GIRLS)
        picked = self.sample(range(girls + len(words.BOYS)), count)
        return [Person(words.GIRLS[i], "she") if i < girls else Person(words.BOYS[i - girls], "he") for i in picked]

    def elder(self) -> Person:
        he = self.pick(("she", "he"))
        return Person(self.pick(words.ELDERS[he]), he)

    def tradesperson(self) -> Person:
        return Person("the " + self.pick(words.TRADES), self.pick(("she", "he")))

    def things(self, count: int, *kinds: str) -> list[Thing]:
        """Different things, most with an adjective; of the given kinds, or of any."""
        found: dict[str, Thing] = {}
        while len(found) < count:
            adjectives, nouns = words.THINGS[self.pick(kinds or tuple(words.THINGS))]
            noun = self.pick(nouns)
            found.setdefault(noun, Thing(f"{self.pick(adjectives)} {noun}" if self.chance(0.6) else noun))
        return list(found.values())

    def animals(self, count: int) -> list[str]:
        return self.sample(tuple(words.ANIMALS), count)

    def made_up(self, syllables: int = 2) -> str:
        """A word that is in no dictionary."""
        return "".join(self.pick(words.SYLLABLES) for _ in range(syllables))

    # ------------------------------------------------------------------ telling

    def title(self, text: str) -> None:
        small = {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "the", "to", "with"}
        self._paragraphs.append(
            [" ".join(w if i and w in small else capital(w) for i, w in enumerate(text.split(" ")))]
        )

    def paragraph(self, *options: str) -> None:
        """Begin a paragraph with one of these sentences."""
        self._paragraphs.append([])
        self.say(*options)

    def say(self, *options: str) -> None:
        """Go on with one of these sentences."""
        self._paragraphs[-1].append(sentences(self.pick(options)))

    def text(self) -> str:
        """The story so far: a line for each paragraph."""
        return "\n".join(map(" ".join, self._paragraphs)) + "\n"
