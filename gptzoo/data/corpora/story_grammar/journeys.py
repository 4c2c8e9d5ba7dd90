"""Plots in which somebody or something goes from place to place."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Teller, listing
from gptzoo.data.corpora.story_grammar.scenes import ending, interlude, moved, opening, place, said


def lost_and_found(t: Teller) -> None:
    """A treasure is lost, two friends are asked, and a third has it."""
    hero, friend, finder = t.people(3)
    thing = t.things(1, "trinket", "metal", "cloth", "wood", "paper")[0]
    corner, elsewhere = t.sample(words.HIDING_PLACES, 2)
    t.title(f"{hero} and {thing.the}")
    opening(t, hero)
    t.say(
        f"{hero} had {thing.a} and took it everywhere.",
        f"In one hand {hero.he} carried {thing.a}.",
        f"{hero.he} had brought {thing.a}, a present from {t.elder()}.",
    )
    interlude(t, hero)
    t.paragraph(f"Suddenly {hero} stood still. {thing.the} was gone!", f"Then {hero} saw that {thing.the} was gone.")
    t.say(f"{hero} looked {elsewhere}, but {thing.the} was not there.", f"{hero.he} almost cried.")
    t.paragraph(
        f'"Have you seen {thing.the}?" {hero} asked {friend}.', f'"{friend}, do you have {thing.the}?" asked {hero}.'
    )
    t.say(
        f'"No," {said(t, friend)}, "but {finder} was here. Ask {finder.him}."',
        f'"I have not," {said(t, friend)}. "Ask {finder}. {finder.he} sees everything."',
    )
    t.paragraph(f"So {hero} {moved(t)} to {finder}.", f"{hero} thanked {friend} and {moved(t)} to {finder}.")
    t.say(f'"Here it is," {said(t, finder)}. "It was {corner}."', f'"I found it {corner}," {said(t, finder)}.')
    t.say(f"And {finder} gave {hero} {thing.the}.", f"{finder} had {thing.the} in {finder.his} hand.")
    t.paragraph(f'"Where was it?" {friend} asked later. "{corner}," {said(t, hero)}.')
    t.say(f'"And who found it?" "{finder}!"', f'"Who had it?" "{finder} had it."')
    ending(t, hero, finder)


def errand(t: Teller) -> None:
    """A shopping list is said, said back, bought in order and unpacked, the last thing first."""
    hero, elder = t.people(1)[0], t.elder()
    things = t.things(t.number(2, 4), "food", "groceries", "cloth", "wood", "trinket", "metal")
    items, names = listing([thing.a for thing in things]), [thing.the for thing in things]
    t.title(f"{words.NUMBERS[len(things) - 1]} things for {elder}")
    opening(t, hero)
    t.paragraph(f'"Bring me {items}," said {elder}.', f"{elder} needed {items}.", f'"I need {items}," said {elder}.')
    t.say(f'"{items}," {hero} said to remember it.', f'"{items}," {said(t, hero)}.', f'{hero} nodded. "{items}."')
    interlude(t, hero)
    t.paragraph(f"At the market {hero} found it all.", f"The market was full of people, but {hero} knew what to do.")
    for at, name in enumerate(names):
        if at == 0:
            t.say(f"First {hero.he} bought {name}.", f"{hero.he} began with {name}.")
        else:
            t.say(f"Then {hero.he} bought {name}.", f"The {words.ORDINALS[at]} was {name}.", f"Next was {name}.")
    if t.chance(0.5):
        at = t.number(0, len(names) - 1)
        t.say(f'"What did you buy {words.ORDINALS[at]}?" asked {t.tradesperson()}. "{names[at]}," {said(t, hero)}.')
    t.paragraph(f"At home the basket was unpacked from top to bottom: {listing(names[::-1])}.")
    t.say(f'"{items}," said {elder}. "You forgot nothing!"', f'"You have it all," said {elder}: "{items}."')
    ending(t, hero)


def treasure_map(t: Teller) -> None:
    """A way is read, walked, and walked back in reverse."""
    hero, friend = t.people(2)
    ways = t.sample(words.WAYS, t.number(2, 4))
    thing = t.things(1, "trinket", "metal", "wood", "paper")[0]
    t.title(t.pick(("the map", "the way to the treasure", f"how {hero} found the way", "a map and a secret")))
    opening(t, hero, friend)
    t.paragraph(f"{friend} had found a map. It showed the way: {listing(ways)}.", f'The map said: "{listing(ways)}."')
    t.say(f'"Let us go," {said(t, hero)}.', f'"I know these places," {said(t, hero)}.')
    t.paragraph(f"{hero} and {friend} {moved(t)} {ways[0]}.")
    for way in ways[1:]:
        t.say(f"Then they {moved(t)} {way}.", f"After that they {moved(t)} {way}.", f"They {moved(t)} {way}.")
    if t.chance(0.5):
        interlude(t, hero)
    where = t.pick(words.HIDING_PLACES)
    t.paragraph(f"And there, {where}, was {thing.a}!", f'"Look {where}!" cried {friend}. There was {thing.a}.')
    t.paragraph(f"They took {thing.the} home the same way, but backwards: {listing(ways[::-1])}.")
    at = t.number(0, len(ways) - 2)
    t.say(f'"Where did we go after we went {ways[at]}?" asked {friend}. "{ways[at + 1]}," {said(t, hero)}.')
    ending(t, hero, friend)


def passing_on(t: Teller) -> None:
    """One thing goes from hand to hand; who has it, who had it?"""
    people = t.people(t.number(3, 5))
    hero, last = people[0], people[-1]
    thing = t.things(1)[0]
    t.title(f"who has {thing.the}")
    opening(t, hero)
    t.paragraph(
        f"{hero} had {thing.a}.", f"In {hero.his} bag {hero} had {thing.a}.", f"{t.elder()} gave {hero} {thing.a}."
    )
    for giver, taker in itertools.pairwise(people):
        t.say(
            f"{giver} gave {thing.the} to {taker}.",
            f"{giver} handed it to {taker}.",
            f'"This is for you, {taker}," said {giver}.',
            f"{taker} asked for it, and {giver} gave it to {taker.him}.",
        )
    t.paragraph(f'"Who has {thing.the} now?" asked {t.tradesperson()}. "{last}," {said(t, people[1])}.')
    t.say(f'"And who had it first?" "{hero} had it first."', f'"Who had it before {last}?" "{people[-2]} had it."')
    interlude(t, hero)
    t.paragraph(f"In the evening {thing.the} went all the way back: from {last} to {listing(people[-2::-1])}.")
    ending(t, hero, last)


def trading(t: Teller) -> None:
    """A small thing becomes a big one by a chain of trades."""
    hero = t.people(1)[0]
    things = t.things(t.number(3, 5), "trinket", "metal", "cloth", "wood", "paper", "food")
    t.title(t.pick((f"{hero} the trader", "a good trade", f"from {things[0].name} to {things[-1].name}")))
    opening(t, hero)
    interlude(t, hero)
    t.paragraph(f"All that {hero} had was {things[0].a}.", f"{hero} had nothing but {things[0].a}.")
    for had, got in itertools.pairwise(things):
        other = t.tradesperson()
        t.paragraph(
            f"{hero} met {other}, who wanted {had.the} and gave {hero.him} {got.a} for it.",
            f'"I will give you {got.a} for {had.the}," said {other}. "Done!" {said(t, hero)}.',
            f"{other} liked {had.the}. So {hero} swapped it for {got.a}.",
        )
    t.paragraph(f'"What did you begin with?" asked {t.elder()}. "With {things[0].a}," {said(t, hero)}.')
    t.say(f'"And then?" "Then I had {listing([thing.a for thing in things[1:]])}."')
    ending(t, hero)


def message(t: Teller) -> None:
    """A message is carried from mouth to mouth and must arrive as it was said."""
    hero, sender, receiver = t.people(3)
    first, second = t.things(2)
    there, to_there = place(t)
    number = t.pick(words.NUMBERS)
    text = t.pick(
        (
            f"come {to_there} at {number} and bring {first.a} and {second.a}",
            f"{first.the} is {t.pick(words.HIDING_PLACES)}, and {second.the} is {t.pick(words.HIDING_PLACES)}",
            f"on {t.pick(words.DAYS)} we meet {there}, and on {t.pick(words.DAYS)} at the {t.pick(words.TRADES)}'s",
            f"knock {number} times, say {t.made_up()}, and wait {there}",
        )
    )
    t.title(t.pick((f"a message for {receiver}", f"{hero} carries a message", f"what {sender} said")))
    opening(t, hero)
    t.paragraph(
        f'"Tell {receiver} this," said {sender}: "{text}."', f'"{hero}, please tell {receiver}: {text}," said {sender}.'
    )
    t.say(f'"{text}," {hero} repeated.', f'"I will say it just so," said {hero}: "{text}."')
    interlude(t, hero)
    t.paragraph(f"{hero} {moved(t)} to {receiver}'s house.", f"At last {hero} stood before {receiver}.")
    t.say(f'"{sender} says: {text}."', f'"{text}," said {hero}.')
    t.paragraph(f'"Who sent you?" asked {receiver}. "{sender} did," {said(t, hero)}.')
    t.say(
        f'{receiver} wrote it down: "{text}."',
        f"{receiver} laughed and put on {receiver.his} hat.",
        f"{receiver} understood.",
    )
    ending(t, hero, receiver)
