"""Plots at home: cooking, planting, chores, guests, songs and storms."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import StoryBuilder, Thing, listing, with_article
from gptzoo.data.corpora.story_grammar.scenes import (
    ending,
    interlude,
    moved,
    opening,
    opening_at_home,
    pick_place,
    said,
)


def recipe(story: StoryBuilder) -> None:
    """Write a story in which ingredients are added in order and the recipe is repeated the next day."""
    hero, elder = story.people(1)[0], story.elder()
    parts = story.things(story.number(3, 4), "food", "groceries")
    names = [part.the for part in parts]
    occasion = story.pick(("birthday", "holiday", "magic", "picnic", "Sunday", "winter"))
    dish = f"{occasion} {story.pick(('cake', 'pie', 'soup', 'stew'))}"
    story.title(story.pick((f"the {dish}", f"{hero} and {elder} make {dish}", f"{hero} the cook")))
    opening_at_home(story, hero)
    story.paragraph(f'"Today we make {dish}," said {elder}.', f"{hero} and {elder} wanted to make {dish}.")
    story.say(
        f"On the table were {listing([part.a for part in parts])}.", f'"We need {listing([part.a for part in parts])}."'
    )
    story.paragraph(f"First {names[0]} went into the bowl.", f"{hero} began with {names[0]}.")
    for name in names[1:]:
        story.say(f"Then came {name}.", f"After that {hero} added {name}.", f"{hero} stirred and put in {name}.")
    story.paragraph(f'"What went in first?" asked {elder}. "{names[0]}," {said(story, hero)}.')
    story.say(f'"And last?" "{names[-1]}."', f'"And after {names[0]}?" "{names[1]}."')
    interlude(story, hero)
    story.paragraph(f"The next day {hero} made it alone, in the same order: {listing(names)}.")
    story.say(f"It was {story.pick(('too hot', 'very good', 'a little sweet', 'wonderful', 'gone in a minute'))}.")
    ending(story, hero)


def garden(story: StoryBuilder) -> None:
    """Write a story in which rows are planted and come up in the same order."""
    hero, friend = story.people(2)
    rows = story.sample(words.PLANTS, story.number(3, 5))
    story.title(story.pick((f"the garden of {hero}", "rows and rows", f"{hero} plants {rows[0]}")))
    opening(story, hero, friend)
    story.paragraph(
        f"{hero} dug a garden. By the gate {hero.he} planted {rows[0]}.", f"In the first row {hero} sowed {rows[0]}."
    )
    for before, row in itertools.pairwise(rows):
        story.say(
            f"Next to the {before} came {row}.", f"In the next row {hero} planted {row}.", f"Beside them grew {row}."
        )
    story.paragraph(
        f'"{listing(rows)}," {hero} read from the gate to the wall.', f"From gate to wall there were {listing(rows)}."
    )
    story.say(f"From the wall to the gate there were {listing(rows[::-1])}.")
    interlude(story, hero)
    animal, at = story.animals(1)[0], story.number(0, len(rows) - 1)
    story.paragraph(
        f"One night {with_article(animal)} came and ate all the {rows[at]}.", f"A storm took away the {rows[at]}."
    )
    left = [row for row in rows if row != rows[at]]
    story.say(
        f'"What is left?" asked {friend}. "{listing(left)}," {said(story, hero)}.', f"Only {listing(left)} were left."
    )
    ending(story, hero, friend)


def week(story: StoryBuilder) -> None:
    """Write a story with one chore per day, in which somebody asks what was done on which day."""
    hero, elder = story.people(1)[0], story.elder()
    first = story.number(0, 3)
    days = words.DAYS[first : first + story.number(3, 4)]
    chores = story.sample(words.CHORES, len(days))
    story.title(story.pick((f"a busy week for {hero}", f"from {days[0]} to {days[-1]}", f"what {hero} did")))
    opening_at_home(story, hero)
    story.paragraph(
        f"It was a busy week for {hero}.", f'"I was busy," {said(story, hero)}.', f"{hero} had no time to be bored."
    )
    for day, chore in zip(days, chores, strict=True):
        story.say(f"On {day} {hero.he} {chore}.", f"On {day} {hero} {chore}.", f"{hero} {chore} on {day}.")
    interlude(story, hero)
    at = story.number(0, len(days) - 1)
    story.paragraph(f'"What did you do on {days[at]}?" asked {elder}. "I {chores[at]}," {said(story, hero)}.')
    at = story.number(0, len(days) - 1)
    story.say(f'"And on {days[at]}?" "On {days[at]} I {chores[at]}."')
    at = story.number(0, len(days) - 2)
    story.say(f'"What came after {days[at]}?" "{days[at + 1]}, and I {chores[at + 1]}."')
    ending(story, hero)


def guests(story: StoryBuilder) -> None:
    """Write a story in which guests arrive one by one and leave in the same or the reverse order."""
    hero, *visitors = story.people(story.number(3, 4))
    gifts = story.things(len(visitors))
    story.title(story.pick((f"{hero} has guests", "a knock at the door", f"the birthday of {hero}")))
    opening_at_home(story, hero)
    story.paragraph(
        f"It was the birthday of {hero}.", f"{hero} had set the table.", f"{hero} was waiting for {hero.his} guests."
    )
    for visitor, gift in zip(visitors, gifts, strict=True):
        story.say(
            f"Knock, knock! It was {visitor} with {gift.a}.",
            f"Then the bell rang, and {visitor} brought {gift.a}.",
            f"{visitor} {moved(story)} in and gave {hero} {gift.a}.",
        )
    story.paragraph(
        f'"Who came first?" asked {story.elder()}. "{visitors[0]}," {said(story, hero)}. "And last?" "{visitors[-1]}."'
    )
    at = story.number(0, len(visitors) - 1)
    story.say(
        f'"Who brought {gifts[at].the}?" "{visitors[at]} did."', f'"What did {visitors[at]} bring?" "{gifts[at].a}."'
    )
    interlude(story, hero)
    if story.chance(0.5):
        story.paragraph(
            f"Whoever came first left first: {listing(visitors)}.", f"They left as they had come: {listing(visitors)}."
        )
    else:
        story.paragraph(f"Whoever came last left first: {listing(visitors[::-1])}.")
    ending(story, hero, visitors[-1])


def song(story: StoryBuilder) -> None:
    """Write a story in which a verse is sung three times."""
    hero, friend = story.people(2)
    animal, other = story.animals(2)
    location, _ = pick_place(story)
    rhyme = f"{story.invented_word()} {story.invented_word()} {story.invented_word(1)}"
    verse = story.pick(
        (
            f"The {animal} and the {other} went {story.pick(words.WAYS)}, {rhyme}",
            f"Sing, little {animal}, {rhyme}, sing for the {other} {location}",
            f"{rhyme}, says the {animal}, {rhyme}, says the {other}",
            f"One for the {animal}, two for the {other}, three for the {story.pick(words.TRADES)}, {rhyme}",
        )
    )
    story.title(story.pick((f"the song of the {animal}", f"{hero} sings", f"a song for {friend}")))
    opening(story, hero, friend)
    story.paragraph(f'{hero} made up a song: "{verse}!"', f'"{verse}!" sang {hero}.')
    story.say(
        f'{friend} sang it too: "{verse}!"', f'"{verse}!" sang {friend}.', f'"Once more," said {friend}. "{verse}!"'
    )
    interlude(story, hero)
    story.paragraph(f'"How did it go?" asked {story.tradesperson()}. "{verse}!" sang {hero} and {friend}.')
    ending(story, hero, friend)


def storm(story: StoryBuilder) -> None:
    """Write a story in which the light goes out and counting helps against fear."""
    hero, small = story.people(2)
    elder, lamp = (
        story.elder(),
        Thing(f"{story.pick(words.THINGS['metal'][0])} {story.pick(('candle', 'lamp', 'lantern'))}"),
    )
    count = story.number(3, 8)
    numbers = words.NUMBERS[:count]
    story.title(story.pick(("the night of the storm", f"{hero} is not afraid", f"{small} and the thunder")))
    opening_at_home(story, hero, small)
    story.paragraph(
        "At night the storm came. The wind howled, and the light went out.", "Then lightning struck, and it was dark."
    )
    story.say(f'"I am afraid," {said(story, small)}.', f"{small} hid {story.pick(words.HIDING_PLACES)}.")
    story.say(f'"Let us count until it thunders," said {elder}. "{", ".join(numbers)}!" Boom!')
    story.say(f'"Now backwards," {said(story, hero)}. "{", ".join(numbers[::-1])}!" Boom!')
    story.paragraph(
        f"{hero} felt for {lamp.the} and gave it to {small}.",
        f'"Hold {lamp.the}," {said(story, hero)}. {small} held it.',
    )
    tale = story.things(2)
    story.say(f"Then {elder} told a story about {tale[0].a} and {tale[1].a}.")
    interlude(story, hero)
    story.paragraph(f"In the morning all was quiet. {lamp.the} was still in the hand of {small}.")
    story.say(
        f'"Whose story was it?" asked {small}. "It was about {tale[0].the} and {tale[1].the}," {said(story, hero)}.'
    )
    story.say(f"How far had they counted? {small} knew: to {numbers[-1]}.")
    ending(story, hero, small)


def rescue(story: StoryBuilder) -> None:
    """Write a story in which helpers pull out a stuck animal, one behind the other."""
    hero, friend = story.people(2)
    stuck, *helpers = story.animals(story.number(3, 4))
    location, to_location = pick_place(story)
    story.title(story.pick((f"the {stuck} is stuck", f"{hero} and the {stuck}", "all together now")))
    opening(story, hero)
    interlude(story, hero)
    story.paragraph(
        f"{location} {with_article(stuck)} was stuck in the mud.", f'"Help!" cried {with_article(stuck)} {location}.'
    )
    story.say(
        f"{hero} pulled, but the {stuck} did not move.",
        f"{hero} {moved(story)} {to_location} and took hold of the {stuck}.",
    )
    chain = [str(hero)]
    for helper in helpers:
        name = f"the {helper}"
        story.paragraph(f"So {hero} called {name}.", f"{name} came by and wanted to help.", f"Then {name} came.")
        pulling = [f"{behind} pulled {front}" for behind, front in zip([name, *chain[::-1]], chain[::-1], strict=False)]
        story.say(f"{', '.join(pulling)}, and {hero} pulled the {stuck}.")
        chain.append(name)
    story.say(
        f"Plop! The {stuck} was free.", f"And out came the {stuck}!", f"At last the {stuck} was free, wet and happy."
    )
    story.paragraph(f'"Who helped you?" asked {friend}. "{listing(chain)}," said the {stuck}.')
    story.say(f'"And who pulled {chain[-2]}?" "{chain[-1]}."')
    ending(story, hero, friend)
