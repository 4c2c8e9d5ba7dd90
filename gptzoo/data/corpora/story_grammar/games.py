"""Plots about games and riddles, in which an order is repeated, reversed and asked about."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import StoryBuilder, capitalize, listing, with_article
from gptzoo.data.corpora.story_grammar.scenes import ending, interlude, moved, opening, pick_place, said


def race(story: StoryBuilder) -> None:
    """Write a story in which animals race and somebody asks for the order of arrival."""
    hero, friend = story.people(2)
    runners = story.animals(story.number(3, 4))
    order = story.sample(runners, len(runners))
    goal = story.pick(words.WAYS)
    story.title(
        story.pick(("the great race", f"the {runners[0]}, the {runners[1]} and the others", "who is the fastest"))
    )
    opening(story, hero, friend)
    interlude(story, hero)
    story.paragraph(f"{listing([with_article(name) for name in runners])} wanted to know who was the fastest.")
    story.say(f'"Run {goal} and back," {said(story, hero)}.', f"The race went {goal} and back again.")
    story.say(
        f"The {runners[0]} stretched. The {runners[1]} yawned.",
        f'"One, two, three!" cried {friend}, and off they went.',
    )
    story.paragraph(f"The {order[0]} came in first.", f"Here came the {order[0]}, first of all!")
    for at, name in enumerate(order[1:], 1):
        story.say(
            f"The {name} was {words.ORDINALS[at]}.", f"{words.ORDINALS[at]} came the {name}.", f"Then came the {name}."
        )
    story.paragraph(f'"Who won?" asked {story.elder()}. "The {order[0]}," {said(story, friend)}.')
    story.say(f'"Who came last?" "The {order[-1]}."', f'"And who came second?" "The {order[1]}."')
    prizes = story.things(2, "food", "groceries", "trinket", "metal")
    story.say(f"So the {order[0]} got {prizes[0].a}, and the {order[-1]} got {prizes[1].a} for trying.")
    ending(story, hero, friend)


def parade(story: StoryBuilder) -> None:
    """Write a story in which a parade passes and somebody asks who walks behind whom."""
    hero, friend = story.people(2)
    row = ["the " + name for name in (*story.animals(2), *story.sample(words.TRADES, story.number(1, 3)))]
    row = story.sample(row, len(row))
    story.title(story.pick(("the parade", f"{hero} and the parade", "one behind the other")))
    opening(story, hero, friend)
    interlude(story, hero)
    story.paragraph("The parade came down the street.", f'"The parade is coming!" cried {friend}.')
    story.say(f"First came {row[0]}.", f"At the front walked {row[0]}.")
    for before, name in itertools.pairwise(row):
        story.say(
            f"Behind {before} came {name}.",
            f"After {before} walked {name}.",
            f"Next came {name}.",
            f"Then came {name}.",
        )
    at = story.number(0, len(row) - 2)
    story.paragraph(f'"Who walked behind {row[at]}?" asked {friend}. "{row[at + 1]}," {said(story, hero)}.')
    story.say(f'"And who walked before {row[at + 1]}?" "{row[at]}."', f'"And at the very end?" "{row[-1]}."')
    story.paragraph(f"Then the parade turned round, so that the last was the first: {listing(row[::-1])}.")
    ending(story, hero, friend)


def magic_words(story: StoryBuilder) -> None:
    """Write a story in which invented words in the right order open a door, and the reverse order closes it."""
    hero, friend = story.people(2)
    spell = [story.invented_word() for _ in range(story.number(3, 4))]
    muddled = [spell[1], spell[0], *spell[2:]]
    location, _ = pick_place(story)
    thing, other = story.things(2)
    story.title(
        story.pick(
            (
                "the magic words",
                "the door in the rock",
                f"{hero} and the door",
                f"what the {story.animals(1)[0]} whispered",
            )
        )
    )
    opening(story, hero, friend)
    story.paragraph(
        f"There was a little door {location}, and nobody could open it.", f"{location} they came to a little door."
    )
    story.say(
        f'An old {story.animals(1)[0]} whispered: "The words are {", ".join(spell)}."',
        f'On it was written: "{" ".join(spell)}."',
    )
    story.paragraph(f'"{" ".join(muddled)}," {said(story, friend)}. Nothing happened. It was the wrong order.')
    story.say(
        f'"{" ".join(spell)}," {said(story, hero)}. And the door opened!',
        f'"No! {" ".join(spell)}!" cried {hero}. It opened!',
    )
    story.paragraph(f"Inside was {thing.a}.", f"What was behind it? There was {thing.a}, and {other.a} too.")
    story.say(f"To close it, {hero} said the words backwards: {' '.join(spell[::-1])}.")
    interlude(story, hero)
    if story.chance(0.5):
        story.paragraph(f'"Do you still know the words?" asked {friend}. "{", ".join(spell)}," {said(story, hero)}.')
    ending(story, hero, friend)


def tower(story: StoryBuilder) -> None:
    """Write a story in which coloured blocks are stacked and listed from both ends."""
    hero, friend = story.people(2)
    blocks = story.sample(words.COLOURS, story.number(3, 5))
    story.title(story.pick((f"{hero} builds a tower", "the tower of blocks", f"{hero}, {friend} and the tower")))
    opening(story, hero, friend)
    interlude(story, hero)
    story.paragraph(f"{hero} built a tower of blocks. At the bottom was {with_article(blocks[0])} one.")
    for below, block in itertools.pairwise(blocks):
        story.say(
            f"On top of it came {with_article(block)} one.", f"On the {below} block stood {with_article(block)} one."
        )
    story.paragraph(
        f"From bottom to top it was {listing(blocks)}.", f'"{listing(blocks)}," {said(story, hero)} from bottom to top.'
    )
    story.say(
        f"From top to bottom it was {listing(blocks[::-1])}.", f'"{listing(blocks[::-1])}," {friend} read from the top.'
    )
    at = story.number(1, len(blocks) - 1)
    story.paragraph(
        f'"Which is under the {blocks[at]} block?" asked {friend}. "The {blocks[at - 1]} one," {said(story, hero)}.',
        f'"Which is on the {blocks[at - 1]} block?" asked {friend}. "The {blocks[at]} one," {said(story, hero)}.',
    )
    animal = story.animals(1)[0]
    story.paragraph(
        f"Then {with_article(animal)} {moved(story)} by, and the tower fell down.",
        f"Oh no! {with_article(animal)} bumped into it, and down it came.",
    )
    story.say(f"So they built it again: {listing(blocks)}.", f'"Again," {said(story, friend)}: "{listing(blocks)}."')
    ending(story, hero, friend)


def hide_and_seek(story: StoryBuilder) -> None:
    """Write a story in which things are hidden in different places and looked for."""
    hero, friend = story.people(2)
    things = story.things(story.number(2, 4))
    corners = story.sample(words.HIDING_PLACES, len(things))
    story.title(story.pick((f"what {hero} hid", "hide and seek", f"{friend} must look", "hot and cold")))
    opening(story, hero, friend)
    story.paragraph(
        f"{hero} hid {words.NUMBERS[len(things) - 1]} things.", f"They played a game: {hero} hid, {friend} looked."
    )
    for thing, corner in zip(things, corners, strict=True):
        story.say(
            f"{hero.he} put {thing.a} {corner}.", f"{corner} {hero.he} hid {thing.a}.", f"{thing.a} went {corner}."
        )
    interlude(story, hero)
    story.paragraph("Then they began.", f'"Ready?" {said(story, friend)}.', f"{friend} opened {friend.his} eyes.")
    for at in story.sample(range(len(things)), len(things)):
        thing, corner = things[at], corners[at]
        story.say(
            f'"Where is {thing.the}?" "{corner}!"',
            f'"What is {corner}?" asked {friend}. "{thing.the}."',
            f"{friend} looked {corner} and found {thing.the}.",
        )
    ending(story, hero, friend)


def choosing(story: StoryBuilder) -> None:
    """Write a story in which everybody chooses a thing and two people swap."""
    people = story.people(story.number(3, 4))
    hero, friend = people[:2]
    things = story.things(len(people))
    story.title(story.pick(("one for each", f"{hero} shares", f"the gifts of {story.elder()}")))
    opening(story, hero, friend)
    interlude(story, hero)
    story.paragraph(f"{story.tradesperson()} had a present for each of them.", "There was something for everybody.")
    for person, thing in zip(people, things, strict=True):
        story.say(
            f"{person} chose {thing.a}.",
            f"{person} wanted {thing.a}.",
            f"{person} took {thing.a}.",
            f"{thing.a} was for {person}.",
        )
    one, another = story.sample(range(len(people)), 2)
    story.paragraph(f'"Who has {things[one].the}?" asked {story.elder()}. "{people[one]} has it."')
    story.say(f'"And what has {people[another]}?" "{things[another].a}."')
    left, right = story.sample(range(len(people)), 2)
    story.paragraph(
        f"Then {people[left]} and {people[right]} swapped.", f'"Let us swap," said {people[left]} to {people[right]}.'
    )
    story.say(f"Now {people[left]} had {things[right].the} and {people[right]} had {things[left].the}.")
    ending(story, hero, friend)


def spelling(story: StoryBuilder) -> None:
    """Write a story in which somebody spells an invented name forwards and backwards."""
    hero = story.people(1)[0]
    name = capitalize(story.invented_word(story.number(2, 3)))
    animal = f"{story.pick(words.ANIMAL_ADJECTIVES)} {story.animals(1)[0]}"
    letters = list(name.lower())
    thing = story.things(1, "food")[0]
    story.title(story.pick((f"{name}", f"{hero} meets {name}", f"a friend named {name}")))
    opening(story, hero)
    story.paragraph(
        f'There {hero} met {with_article(animal)}. "I am {name}," it said.',
        f'"My name is {name}," said {with_article(animal)}.',
    )
    story.say(f'"How do you spell that?" asked {hero}. "{", ".join(letters)}," said {name}.')
    story.say(
        f'"And backwards?" "{", ".join(letters[::-1])}!" {said(story, name)}.', f'"{name}," {said(story, hero)} slowly.'
    )
    interlude(story, hero)
    story.paragraph(
        f"{hero} gave {name} {thing.a}, and {name} was happy.", f'"Would you like {thing.a}, {name}?" asked {hero}.'
    )
    story.say(f'"I will write your name down," {said(story, hero)}: "{", ".join(letters)}. {name}."')
    story.paragraph(f'"What is your friend called?" asked {story.elder()}. "{name}," {said(story, hero)}.')
    ending(story, hero)
