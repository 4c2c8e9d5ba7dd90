"""`StoryBuilder`, which makes the random choices and collects sentences, and the people and things in a story."""

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


def capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


# A sentence starts the text or follows another one; speech may follow a colon. After `?"` or `!"` the speaker may be
# named in lower case, so those end a sentence only before another quotation mark.
_SENTENCE_START = re.compile(r'(^"?|[.!?] "?|\." "?|[!?]" "|: ")([a-z])')


def capitalize_sentences(text: str) -> str:
    """Capitalise the first letter of each sentence, also in speech."""
    return _SENTENCE_START.sub(lambda match: match[1] + match[2].upper(), text)


def listing(items: Sequence[object]) -> str:
    """Join items as in `x, y and z`."""
    names = [str(item) for item in items]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


@dataclass(frozen=True)
class Person:
    """A person in a story with pronouns. `str()` is the name."""

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
    """A thing that can be carried. `str()` is the name without an article."""

    name: str

    def __str__(self) -> str:
        return self.name

    @property
    def a(self) -> str:
        return with_article(self.name)

    @property
    def the(self) -> str:
        return f"the {self.name}"


class StoryBuilder:
    """A story under construction. A seed gives the same story on every machine and version of Python."""

    def __init__(self, seed: int):
        # Python guarantees the sequence of random() across versions, but not that of choice() and shuffle().
        self._random = random.Random(seed).random
        self._paragraphs: list[list[str]] = []
        self.pocket: list[Thing] = []  # things that the hero picked up, in order

    # ------------------------------------------------------------------ random choices

    def number(self, low: int, high: int) -> int:
        """Return a random integer in [low, high]."""
        return low + int(self._random() * (high - low + 1))

    def chance(self, probability: float) -> bool:
        return self._random() < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[int(self._random() * len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """Return `count` distinct options in random order."""
        chosen: dict[int, T] = {}
        while len(chosen) < count:
            index = int(self._random() * len(options))
            chosen[index] = options[index]
        return list(chosen.values())

    # ------------------------------------------------------------------ people and things

    def people(self, count: int) -> list[Person]:
        """Return `count` children with different names."""
        girls = len(words.GIRLS)
        picked = self.sample(range(girls + len(words.BOYS)), count)
        return [Person(words.GIRLS[i], "she") if i < girls else Person(words.BOYS[i - girls], "he") for i in picked]

    def elder(self) -> Person:
        he = self.pick(("she", "he"))
        return Person(self.pick(words.ELDERS[he]), he)

    def tradesperson(self) -> Person:
        return Person("the " + self.pick(words.TRADES), self.pick(("she", "he")))

    def things(self, count: int, *categories: str) -> list[Thing]:
        """Return `count` different things of the given categories (default: any), most with an adjective."""
        things: dict[str, Thing] = {}
        while len(things) < count:
            adjectives, nouns = words.THINGS[self.pick(categories or tuple(words.THINGS))]
            noun = self.pick(nouns)
            things.setdefault(noun, Thing(f"{self.pick(adjectives)} {noun}" if self.chance(0.6) else noun))
        return list(things.values())

    def animals(self, count: int) -> list[str]:
        return self.sample(tuple(words.ANIMALS), count)

    def invented_word(self, syllables: int = 2) -> str:
        """Return an invented word."""
        return "".join(self.pick(words.SYLLABLES) for _ in range(syllables))

    # ------------------------------------------------------------------ sentences

    def title(self, text: str) -> None:
        """Add the title, with capitals except for articles, prepositions and conjunctions."""
        small = {"a", "an", "and", "at", "by", "for", "from", "in", "of", "on", "the", "to", "with"}
        self._paragraphs.append(
            [" ".join(w if i and w in small else capitalize(w) for i, w in enumerate(text.split(" ")))]
        )

    def paragraph(self, *options: str) -> None:
        """Start a paragraph with one of these sentences."""
        self._paragraphs.append([])
        self.say(*options)

    def say(self, *options: str) -> None:
        """Add one of these sentences to the paragraph."""
        self._paragraphs[-1].append(capitalize_sentences(self.pick(options)))

    def text(self) -> str:
        """Return the story, one line per paragraph."""
        return "\n".join(map(" ".join, self._paragraphs)) + "\n"
