"""Plots about games and riddles: orders to keep, turn round and ask about."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Teller, capital, listing, with_article
from gptzoo.data.corpora.story_grammar.scenes import ending, interlude, moved, opening, place, said


def race(t: Teller) -> None:
    """Animals run, come in in some order, and the order is asked for."""
    hero, friend = t.people(2)
    runners = t.animals(t.number(3, 4))
    order = t.sample(runners, len(runners))
    goal = t.pick(words.WAYS)
    t.title(t.pick(("the great race", f"the {runners[0]}, the {runners[1]} and the others", "who is the fastest")))
    opening(t, hero, friend)
    interlude(t, hero)
    t.paragraph(f"{listing([with_article(name) for name in runners])} wanted to know who was the fastest.")
    t.say(f'"Run {goal} and back," {said(t, hero)}.', f"The race went {goal} and back again.")
    t.say(
        f"The {runners[0]} stretched. The {runners[1]} yawned.",
        f'"One, two, three!" cried {friend}, and off they went.',
    )
    t.paragraph(f"The {order[0]} came in first.", f"Here came the {order[0]}, first of all!")
    for at, name in enumerate(order[1:], 1):
        t.say(
            f"The {name} was {words.ORDINALS[at]}.", f"{words.ORDINALS[at]} came the {name}.", f"Then came the {name}."
        )
    t.paragraph(f'"Who won?" asked {t.elder()}. "The {order[0]}," {said(t, friend)}.')
    t.say(f'"Who came last?" "The {order[-1]}."', f'"And who came second?" "The {order[1]}."')
    prizes = t.things(2, "food", "groceries", "trinket", "metal")
    t.say(f"So the {order[0]} got {prizes[0].a}, and the {order[-1]} got {prizes[1].a} for trying.")
    ending(t, hero, friend)


def parade(t: Teller) -> None:
    """A row moves by; who walks behind whom, and who before?"""
    hero, friend = t.people(2)
    row = ["the " + name for name in (*t.animals(2), *t.sample(words.TRADES, t.number(1, 3)))]
    row = t.sample(row, len(row))
    t.title(t.pick(("the parade", f"{hero} and the parade", "one behind the other")))
    opening(t, hero, friend)
    interlude(t, hero)
    t.paragraph("The parade came down the street.", f'"The parade is coming!" cried {friend}.')
    t.say(f"First came {row[0]}.", f"At the front walked {row[0]}.")
    for before, name in itertools.pairwise(row):
        t.say(
            f"Behind {before} came {name}.",
            f"After {before} walked {name}.",
            f"Next came {name}.",
            f"Then came {name}.",
        )
    at = t.number(0, len(row) - 2)
    t.paragraph(f'"Who walked behind {row[at]}?" asked {friend}. "{row[at + 1]}," {said(t, hero)}.')
    t.say(f'"And who walked before {row[at + 1]}?" "{row[at]}."', f'"And at the very end?" "{row[-1]}."')
    t.paragraph(f"Then the parade turned round, so that the last was the first: {listing(row[::-1])}.")
    ending(t, hero, friend)


def magic_words(t: Teller) -> None:
    """A door opens to made-up words in the right order, and closes to the same words backwards."""
    hero, friend = t.people(2)
    spell = [t.made_up() for _ in range(t.number(3, 4))]
    muddled = [spell[1], spell[0], *spell[2:]]
    there, _ = place(t)
    thing, other = t.things(2)
    t.title(
        t.pick(
            ("the magic words", "the door in the rock", f"{hero} and the door", f"what the {t.animals(1)[0]} whispered")
        )
    )
    opening(t, hero, friend)
    t.paragraph(f"There was a little door {there}, and nobody could open it.", f"{there} they came to a little door.")
    t.say(
        f'An old {t.animals(1)[0]} whispered: "The words are {", ".join(spell)}."',
        f'On it was written: "{" ".join(spell)}."',
    )
    t.paragraph(f'"{" ".join(muddled)}," {said(t, friend)}. Nothing happened. It was the wrong order.')
    t.say(
        f'"{" ".join(spell)}," {said(t, hero)}. And the door opened!',
        f'"No! {" ".join(spell)}!" cried {hero}. It opened!',
    )
    t.paragraph(f"Inside was {thing.a}.", f"What was behind it? There was {thing.a}, and {other.a} too.")
    t.say(f"To close it, {hero} said the words backwards: {' '.join(spell[::-1])}.")
    interlude(t, hero)
    if t.chance(0.5):
        t.paragraph(f'"Do you still know the words?" asked {friend}. "{", ".join(spell)}," {said(t, hero)}.')
    ending(t, hero, friend)


def tower(t: Teller) -> None:
    """Coloured blocks are stacked, read from below and from above."""
    hero, friend = t.people(2)
    blocks = t.sample(words.COLOURS, t.number(3, 5))
    t.title(t.pick((f"{hero} builds a tower", "the tower of blocks", f"{hero}, {friend} and the tower")))
    opening(t, hero, friend)
    interlude(t, hero)
    t.paragraph(f"{hero} built a tower of blocks. At the bottom was {with_article(blocks[0])} one.")
    for below, block in itertools.pairwise(blocks):
        t.say(f"On top of it came {with_article(block)} one.", f"On the {below} block stood {with_article(block)} one.")
    t.paragraph(
        f"From bottom to top it was {listing(blocks)}.", f'"{listing(blocks)}," {said(t, hero)} from bottom to top.'
    )
    t.say(
        f"From top to bottom it was {listing(blocks[::-1])}.", f'"{listing(blocks[::-1])}," {friend} read from the top.'
    )
    at = t.number(1, len(blocks) - 1)
    t.paragraph(
        f'"Which is under the {blocks[at]} block?" asked {friend}. "The {blocks[at - 1]} one," {said(t, hero)}.',
        f'"Which is on the {blocks[at - 1]} block?" asked {friend}. "The {blocks[at]} one," {said(t, hero)}.',
    )
    animal = t.animals(1)[0]
    t.paragraph(
        f"Then {with_article(animal)} {moved(t)} by, and the tower fell down.",
        f"Oh no! {with_article(animal)} bumped into it, and down it came.",
    )
    t.say(f"So they built it again: {listing(blocks)}.", f'"Again," {said(t, friend)}: "{listing(blocks)}."')
    ending(t, hero, friend)


def hide_and_seek(t: Teller) -> None:
    """Several things are hidden in several places; each is asked for."""
    hero, friend = t.people(2)
    things = t.things(t.number(2, 4))
    corners = t.sample(words.HIDING_PLACES, len(things))
    t.title(t.pick((f"what {hero} hid", "hide and seek", f"{friend} must look", "hot and cold")))
    opening(t, hero, friend)
    t.paragraph(
        f"{hero} hid {words.NUMBERS[len(things) - 1]} things.", f"They played a game: {hero} hid, {friend} looked."
    )
    for thing, corner in zip(things, corners, strict=True):
        t.say(f"{hero.he} put {thing.a} {corner}.", f"{corner} {hero.he} hid {thing.a}.", f"{thing.a} went {corner}.")
    interlude(t, hero)
    t.paragraph("Then they began.", f'"Ready?" {said(t, friend)}.', f"{friend} opened {friend.his} eyes.")
    for at in t.sample(range(len(things)), len(things)):
        thing, corner = things[at], corners[at]
        t.say(
            f'"Where is {thing.the}?" "{corner}!"',
            f'"What is {corner}?" asked {friend}. "{thing.the}."',
            f"{friend} looked {corner} and found {thing.the}.",
        )
    ending(t, hero, friend)


def choosing(t: Teller) -> None:
    """Everybody chooses something; then it is told who has what."""
    people = t.people(t.number(3, 4))
    hero, friend = people[:2]
    things = t.things(len(people))
    t.title(t.pick(("one for each", f"{hero} shares", f"the gifts of {t.elder()}")))
    opening(t, hero, friend)
    interlude(t, hero)
    t.paragraph(f"{t.tradesperson()} had a present for each of them.", "There was something for everybody.")
    for person, thing in zip(people, things, strict=True):
        t.say(
            f"{person} chose {thing.a}.",
            f"{person} wanted {thing.a}.",
            f"{person} took {thing.a}.",
            f"{thing.a} was for {person}.",
        )
    one, another = t.sample(range(len(people)), 2)
    t.paragraph(f'"Who has {things[one].the}?" asked {t.elder()}. "{people[one]} has it."')
    t.say(f'"And what has {people[another]}?" "{things[another].a}."')
    left, right = t.sample(range(len(people)), 2)
    t.paragraph(
        f"Then {people[left]} and {people[right]} swapped.", f'"Let us swap," said {people[left]} to {people[right]}.'
    )
    t.say(f"Now {people[left]} had {things[right].the} and {people[right]} had {things[left].the}.")
    ending(t, hero, friend)


def spelling(t: Teller) -> None:
    """Somebody with a made-up name spells it, forwards and backwards."""
    hero = t.people(1)[0]
    name = capital(t.made_up(t.number(2, 3)))
    animal = f"{t.pick(words.ANIMAL_ADJECTIVES)} {t.animals(1)[0]}"
    letters = list(name.lower())
    thing = t.things(1, "food")[0]
    t.title(t.pick((f"{name}", f"{hero} meets {name}", f"a friend named {name}")))
    opening(t, hero)
    t.paragraph(
        f'There {hero} met {with_article(animal)}. "I am {name}," it said.',
        f'"My name is {name}," said {with_article(animal)}.',
    )
    t.say(f'"How do you spell that?" asked {hero}. "{", ".join(letters)}," said {name}.')
    t.say(f'"And backwards?" "{", ".join(letters[::-1])}!" {said(t, name)}.', f'"{name}," {said(t, hero)} slowly.')
    interlude(t, hero)
    t.paragraph(
        f"{hero} gave {name} {thing.a}, and {name} was happy.", f'"Would you like {thing.a}, {name}?" asked {hero}.'
    )
    t.say(f'"I will write your name down," {said(t, hero)}: "{", ".join(letters)}. {name}."')
    t.paragraph(f'"What is your friend called?" asked {t.elder()}. "{name}," {said(t, hero)}.')
    ending(t, hero)
