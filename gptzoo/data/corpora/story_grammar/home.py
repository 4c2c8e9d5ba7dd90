"""Plots that stay at home: cooking, planting, weeks, guests, songs and storms."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Teller, Thing, listing, with_article
from gptzoo.data.corpora.story_grammar.scenes import (
    ending,
    interlude,
    moved,
    opening,
    opening_at_home,
    place,
    said,
)


def recipe(t: Teller) -> None:
    """What goes into the pot first, and what last; the next day the same again."""
    hero, elder = t.people(1)[0], t.elder()
    parts = t.things(t.number(3, 4), "food", "groceries")
    names = [part.the for part in parts]
    occasion = t.pick(("birthday", "holiday", "magic", "picnic", "Sunday", "winter"))
    dish = f"{occasion} {t.pick(('cake', 'pie', 'soup', 'stew'))}"
    t.title(t.pick((f"the {dish}", f"{hero} and {elder} make {dish}", f"{hero} the cook")))
    opening_at_home(t, hero)
    t.paragraph(f'"Today we make {dish}," said {elder}.', f"{hero} and {elder} wanted to make {dish}.")
    t.say(
        f"On the table were {listing([part.a for part in parts])}.", f'"We need {listing([part.a for part in parts])}."'
    )
    t.paragraph(f"First {names[0]} went into the bowl.", f"{hero} began with {names[0]}.")
    for name in names[1:]:
        t.say(f"Then came {name}.", f"After that {hero} added {name}.", f"{hero} stirred and put in {name}.")
    t.paragraph(f'"What went in first?" asked {elder}. "{names[0]}," {said(t, hero)}.')
    t.say(f'"And last?" "{names[-1]}."', f'"And after {names[0]}?" "{names[1]}."')
    interlude(t, hero)
    t.paragraph(f"The next day {hero} made it alone, in the same order: {listing(names)}.")
    t.say(f"It was {t.pick(('too hot', 'very good', 'a little sweet', 'wonderful', 'gone in a minute'))}.")
    ending(t, hero)


def garden(t: Teller) -> None:
    """Rows are planted and come up in their order."""
    hero, friend = t.people(2)
    rows = t.sample(words.PLANTS, t.number(3, 5))
    t.title(t.pick((f"the garden of {hero}", "rows and rows", f"{hero} plants {rows[0]}")))
    opening(t, hero, friend)
    t.paragraph(
        f"{hero} dug a garden. By the gate {hero.he} planted {rows[0]}.", f"In the first row {hero} sowed {rows[0]}."
    )
    for before, row in itertools.pairwise(rows):
        t.say(f"Next to the {before} came {row}.", f"In the next row {hero} planted {row}.", f"Beside them grew {row}.")
    t.paragraph(
        f'"{listing(rows)}," {hero} read from the gate to the wall.', f"From gate to wall there were {listing(rows)}."
    )
    t.say(f"From the wall to the gate there were {listing(rows[::-1])}.")
    interlude(t, hero)
    animal, at = t.animals(1)[0], t.number(0, len(rows) - 1)
    t.paragraph(
        f"One night {with_article(animal)} came and ate all the {rows[at]}.", f"A storm took away the {rows[at]}."
    )
    left = [row for row in rows if row != rows[at]]
    t.say(f'"What is left?" asked {friend}. "{listing(left)}," {said(t, hero)}.', f"Only {listing(left)} were left.")
    ending(t, hero, friend)


def week(t: Teller) -> None:
    """A chore for each day; what was done on which?"""
    hero, elder = t.people(1)[0], t.elder()
    first = t.number(0, 3)
    days = words.DAYS[first : first + t.number(3, 4)]
    chores = t.sample(words.CHORES, len(days))
    t.title(t.pick((f"a busy week for {hero}", f"from {days[0]} to {days[-1]}", f"what {hero} did")))
    opening_at_home(t, hero)
    t.paragraph(
        f"It was a busy week for {hero}.", f'"I was busy," {said(t, hero)}.', f"{hero} had no time to be bored."
    )
    for day, chore in zip(days, chores, strict=True):
        t.say(f"On {day} {hero.he} {chore}.", f"On {day} {hero} {chore}.", f"{hero} {chore} on {day}.")
    interlude(t, hero)
    at = t.number(0, len(days) - 1)
    t.paragraph(f'"What did you do on {days[at]}?" asked {elder}. "I {chores[at]}," {said(t, hero)}.')
    at = t.number(0, len(days) - 1)
    t.say(f'"And on {days[at]}?" "On {days[at]} I {chores[at]}."')
    at = t.number(0, len(days) - 2)
    t.say(f'"What came after {days[at]}?" "{days[at + 1]}, and I {chores[at + 1]}."')
    ending(t, hero)


def guests(t: Teller) -> None:
    """There is a knock, and another; the guests leave in the order in which they came, or the other way round."""
    hero, *visitors = t.people(t.number(3, 4))
    gifts = t.things(len(visitors))
    t.title(t.pick((f"{hero} has guests", "a knock at the door", f"the birthday of {hero}")))
    opening_at_home(t, hero)
    t.paragraph(
        f"It was the birthday of {hero}.", f"{hero} had set the table.", f"{hero} was waiting for {hero.his} guests."
    )
    for visitor, gift in zip(visitors, gifts, strict=True):
        t.say(
            f"Knock, knock! It was {visitor} with {gift.a}.",
            f"Then the bell rang, and {visitor} brought {gift.a}.",
            f"{visitor} {moved(t)} in and gave {hero} {gift.a}.",
        )
    t.paragraph(f'"Who came first?" asked {t.elder()}. "{visitors[0]}," {said(t, hero)}. "And last?" "{visitors[-1]}."')
    at = t.number(0, len(visitors) - 1)
    t.say(f'"Who brought {gifts[at].the}?" "{visitors[at]} did."', f'"What did {visitors[at]} bring?" "{gifts[at].a}."')
    interlude(t, hero)
    if t.chance(0.5):
        t.paragraph(
            f"Whoever came first left first: {listing(visitors)}.", f"They left as they had come: {listing(visitors)}."
        )
    else:
        t.paragraph(f"Whoever came last left first: {listing(visitors[::-1])}.")
    ending(t, hero, visitors[-1])


def song(t: Teller) -> None:
    """A verse is sung, sung again by another, and hummed a third time."""
    hero, friend = t.people(2)
    animal, other = t.animals(2)
    there, _ = place(t)
    rhyme = f"{t.made_up()} {t.made_up()} {t.made_up(1)}"
    verse = t.pick(
        (
            f"The {animal} and the {other} went {t.pick(words.WAYS)}, {rhyme}",
            f"Sing, little {animal}, {rhyme}, sing for the {other} {there}",
            f"{rhyme}, says the {animal}, {rhyme}, says the {other}",
            f"One for the {animal}, two for the {other}, three for the {t.pick(words.TRADES)}, {rhyme}",
        )
    )
    t.title(t.pick((f"the song of the {animal}", f"{hero} sings", f"a song for {friend}")))
    opening(t, hero, friend)
    t.paragraph(f'{hero} made up a song: "{verse}!"', f'"{verse}!" sang {hero}.')
    t.say(f'{friend} sang it too: "{verse}!"', f'"{verse}!" sang {friend}.', f'"Once more," said {friend}. "{verse}!"')
    interlude(t, hero)
    t.paragraph(f'"How did it go?" asked {t.tradesperson()}. "{verse}!" sang {hero} and {friend}.')
    ending(t, hero, friend)


def storm(t: Teller) -> None:
    """The light goes out, somebody has a lamp, and counting helps against fear."""
    hero, small = t.people(2)
    elder, lamp = t.elder(), Thing(f"{t.pick(words.THINGS['metal'][0])} {t.pick(('candle', 'lamp', 'lantern'))}")
    count = t.number(3, 8)
    numbers = words.NUMBERS[:count]
    t.title(t.pick(("the night of the storm", f"{hero} is not afraid", f"{small} and the thunder")))
    opening_at_home(t, hero, small)
    t.paragraph(
        "At night the storm came. The wind howled, and the light went out.", "Then lightning struck, and it was dark."
    )
    t.say(f'"I am afraid," {said(t, small)}.', f"{small} hid {t.pick(words.HIDING_PLACES)}.")
    t.say(f'"Let us count until it thunders," said {elder}. "{", ".join(numbers)}!" Boom!')
    t.say(f'"Now backwards," {said(t, hero)}. "{", ".join(numbers[::-1])}!" Boom!')
    t.paragraph(
        f"{hero} felt for {lamp.the} and gave it to {small}.", f'"Hold {lamp.the}," {said(t, hero)}. {small} held it.'
    )
    tale = t.things(2)
    t.say(f"Then {elder} told a story about {tale[0].a} and {tale[1].a}.")
    interlude(t, hero)
    t.paragraph(f"In the morning all was quiet. {lamp.the} was still in the hand of {small}.")
    t.say(f'"Whose story was it?" asked {small}. "It was about {tale[0].the} and {tale[1].the}," {said(t, hero)}.')
    t.say(f"How far had they counted? {small} knew: to {numbers[-1]}.")
    ending(t, hero, small)


def rescue(t: Teller) -> None:
    """An animal is stuck; who helps, who pulls behind whom, and how many are left?"""
    hero, friend = t.people(2)
    stuck, *helpers = t.animals(t.number(3, 4))
    there, to_there = place(t)
    t.title(t.pick((f"the {stuck} is stuck", f"{hero} and the {stuck}", "all together now")))
    opening(t, hero)
    interlude(t, hero)
    t.paragraph(f"{there} {with_article(stuck)} was stuck in the mud.", f'"Help!" cried {with_article(stuck)} {there}.')
    t.say(
        f"{hero} pulled, but the {stuck} did not move.", f"{hero} {moved(t)} {to_there} and took hold of the {stuck}."
    )
    chain = [str(hero)]
    for helper in helpers:
        name = f"the {helper}"
        t.paragraph(f"So {hero} called {name}.", f"{name} came by and wanted to help.", f"Then {name} came.")
        pulling = [f"{behind} pulled {front}" for behind, front in zip([name, *chain[::-1]], chain[::-1], strict=False)]
        t.say(f"{', '.join(pulling)}, and {hero} pulled the {stuck}.")
        chain.append(name)
    t.say(f"Plop! The {stuck} was free.", f"And out came the {stuck}!", f"At last the {stuck} was free, wet and happy.")
    t.paragraph(f'"Who helped you?" asked {friend}. "{listing(chain)}," said the {stuck}.')
    t.say(f'"And who pulled {chain[-2]}?" "{chain[-1]}."')
    ending(t, hero, friend)
