"""Plots in which people or things move from place to place."""

from __future__ import annotations

import itertools

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import StoryBuilder, listing
from gptzoo.data.corpora.story_grammar.scenes import ending, interlude, moved, opening, pick_place, said


def lost_and_found(story: StoryBuilder) -> None:
    """Write a story in which a thing is lost and a friend of a friend has found it."""
    hero, friend, finder = story.people(3)
    thing = story.things(1, "trinket", "metal", "cloth", "wood", "paper")[0]
    corner, elsewhere = story.sample(words.HIDING_PLACES, 2)
    story.title(f"{hero} and {thing.the}")
    opening(story, hero)
    story.say(
        f"{hero} had {thing.a} and took it everywhere.",
        f"In one hand {hero.he} carried {thing.a}.",
        f"{hero.he} had brought {thing.a}, a present from {story.elder()}.",
    )
    interlude(story, hero)
    story.paragraph(
        f"Suddenly {hero} stood still. {thing.the} was gone!", f"Then {hero} saw that {thing.the} was gone."
    )
    story.say(f"{hero} looked {elsewhere}, but {thing.the} was not there.", f"{hero.he} almost cried.")
    story.paragraph(
        f'"Have you seen {thing.the}?" {hero} asked {friend}.', f'"{friend}, do you have {thing.the}?" asked {hero}.'
    )
    story.say(
        f'"No," {said(story, friend)}, "but {finder} was here. Ask {finder.him}."',
        f'"I have not," {said(story, friend)}. "Ask {finder}. {finder.he} sees everything."',
    )
    story.paragraph(
        f"So {hero} {moved(story)} to {finder}.", f"{hero} thanked {friend} and {moved(story)} to {finder}."
    )
    story.say(
        f'"Here it is," {said(story, finder)}. "It was {corner}."', f'"I found it {corner}," {said(story, finder)}.'
    )
    story.say(f"And {finder} gave {hero} {thing.the}.", f"{finder} had {thing.the} in {finder.his} hand.")
    story.paragraph(f'"Where was it?" {friend} asked later. "{corner}," {said(story, hero)}.')
    story.say(f'"And who found it?" "{finder}!"', f'"Who had it?" "{finder} had it."')
    ending(story, hero, finder)


def errand(story: StoryBuilder) -> None:
    """Write a story in which a shopping list is repeated, bought in order and unpacked in reverse order."""
    hero, elder = story.people(1)[0], story.elder()
    things = story.things(story.number(2, 4), "food", "groceries", "cloth", "wood", "trinket", "metal")
    items, names = listing([thing.a for thing in things]), [thing.the for thing in things]
    story.title(f"{words.NUMBERS[len(things) - 1]} things for {elder}")
    opening(story, hero)
    story.paragraph(
        f'"Bring me {items}," said {elder}.', f"{elder} needed {items}.", f'"I need {items}," said {elder}.'
    )
    story.say(
        f'"{items}," {hero} said to remember it.', f'"{items}," {said(story, hero)}.', f'{hero} nodded. "{items}."'
    )
    interlude(story, hero)
    story.paragraph(
        f"At the market {hero} found it all.", f"The market was full of people, but {hero} knew what to do."
    )
    for at, name in enumerate(names):
        if at == 0:
            story.say(f"First {hero.he} bought {name}.", f"{hero.he} began with {name}.")
        else:
            story.say(f"Then {hero.he} bought {name}.", f"The {words.ORDINALS[at]} was {name}.", f"Next was {name}.")
    if story.chance(0.5):
        at = story.number(0, len(names) - 1)
        asker = story.tradesperson()
        story.say(f'"What did you buy {words.ORDINALS[at]}?" asked {asker}. "{names[at]}," {said(story, hero)}.')
    story.paragraph(f"At home the basket was unpacked from top to bottom: {listing(names[::-1])}.")
    story.say(f'"{items}," said {elder}. "You forgot nothing!"', f'"You have it all," said {elder}: "{items}."')
    ending(story, hero)


def treasure_map(story: StoryBuilder) -> None:
    """Write a story in which directions are read, followed, and followed back in reverse."""
    hero, friend = story.people(2)
    ways = story.sample(words.WAYS, story.number(2, 4))
    thing = story.things(1, "trinket", "metal", "wood", "paper")[0]
    story.title(story.pick(("the map", "the way to the treasure", f"how {hero} found the way", "a map and a secret")))
    opening(story, hero, friend)
    story.paragraph(
        f"{friend} had found a map. It showed the way: {listing(ways)}.", f'The map said: "{listing(ways)}."'
    )
    story.say(f'"Let us go," {said(story, hero)}.', f'"I know these places," {said(story, hero)}.')
    story.paragraph(f"{hero} and {friend} {moved(story)} {ways[0]}.")
    for way in ways[1:]:
        story.say(
            f"Then they {moved(story)} {way}.", f"After that they {moved(story)} {way}.", f"They {moved(story)} {way}."
        )
    if story.chance(0.5):
        interlude(story, hero)
    where = story.pick(words.HIDING_PLACES)
    story.paragraph(f"And there, {where}, was {thing.a}!", f'"Look {where}!" cried {friend}. There was {thing.a}.')
    story.paragraph(f"They took {thing.the} home the same way, but backwards: {listing(ways[::-1])}.")
    at = story.number(0, len(ways) - 2)
    story.say(f'"Where did we go after we went {ways[at]}?" asked {friend}. "{ways[at + 1]}," {said(story, hero)}.')
    ending(story, hero, friend)


def passing_on(story: StoryBuilder) -> None:
    """Write a story in which a thing passes from hand to hand and somebody asks who had it."""
    people = story.people(story.number(3, 5))
    hero, last = people[0], people[-1]
    thing = story.things(1)[0]
    story.title(f"who has {thing.the}")
    opening(story, hero)
    story.paragraph(
        f"{hero} had {thing.a}.", f"In {hero.his} bag {hero} had {thing.a}.", f"{story.elder()} gave {hero} {thing.a}."
    )
    for giver, taker in itertools.pairwise(people):
        story.say(
            f"{giver} gave {thing.the} to {taker}.",
            f"{giver} handed it to {taker}.",
            f'"This is for you, {taker}," said {giver}.',
            f"{taker} asked for it, and {giver} gave it to {taker.him}.",
        )
    story.paragraph(f'"Who has {thing.the} now?" asked {story.tradesperson()}. "{last}," {said(story, people[1])}.')
    story.say(f'"And who had it first?" "{hero} had it first."', f'"Who had it before {last}?" "{people[-2]} had it."')
    interlude(story, hero)
    story.paragraph(f"In the evening {thing.the} went all the way back: from {last} to {listing(people[-2::-1])}.")
    ending(story, hero, last)


def trading(story: StoryBuilder) -> None:
    """Write a story in which a chain of trades turns a small thing into a big one."""
    hero = story.people(1)[0]
    things = story.things(story.number(3, 5), "trinket", "metal", "cloth", "wood", "paper", "food")
    story.title(story.pick((f"{hero} the trader", "a good trade", f"from {things[0].name} to {things[-1].name}")))
    opening(story, hero)
    interlude(story, hero)
    story.paragraph(f"All that {hero} had was {things[0].a}.", f"{hero} had nothing but {things[0].a}.")
    for had, got in itertools.pairwise(things):
        other = story.tradesperson()
        story.paragraph(
            f"{hero} met {other}, who wanted {had.the} and gave {hero.him} {got.a} for it.",
            f'"I will give you {got.a} for {had.the}," said {other}. "Done!" {said(story, hero)}.',
            f"{other} liked {had.the}. So {hero} swapped it for {got.a}.",
        )
    story.paragraph(f'"What did you begin with?" asked {story.elder()}. "With {things[0].a}," {said(story, hero)}.')
    story.say(f'"And then?" "Then I had {listing([thing.a for thing in things[1:]])}."')
    ending(story, hero)


def message(story: StoryBuilder) -> None:
    """Write a story in which a message passes through several people and must arrive unchanged."""
    hero, sender, receiver = story.people(3)
    first, second = story.things(2)
    location, to_location = pick_place(story)
    number = story.pick(words.NUMBERS)
    text = story.pick(
        (
            f"come {to_location} at {number} and bring {first.a} and {second.a}",
            f"{first.the} is {story.pick(words.HIDING_PLACES)}, and {second.the} is {story.pick(words.HIDING_PLACES)}",
            f"on {story.pick(words.DAYS)} we meet {location}, and on {story.pick(words.DAYS)} "
            f"at the {story.pick(words.TRADES)}'s",
            f"knock {number} times, say {story.invented_word()}, and wait {location}",
        )
    )
    story.title(story.pick((f"a message for {receiver}", f"{hero} carries a message", f"what {sender} said")))
    opening(story, hero)
    story.paragraph(
        f'"Tell {receiver} this," said {sender}: "{text}."', f'"{hero}, please tell {receiver}: {text}," said {sender}.'
    )
    story.say(f'"{text}," {hero} repeated.', f'"I will say it just so," said {hero}: "{text}."')
    interlude(story, hero)
    story.paragraph(f"{hero} {moved(story)} to {receiver}'s house.", f"At last {hero} stood before {receiver}.")
    story.say(f'"{sender} says: {text}."', f'"{text}," said {hero}.')
    story.paragraph(f'"Who sent you?" asked {receiver}. "{sender} did," {said(story, hero)}.')
    story.say(
        f'{receiver} wrote it down: "{text}."',
        f"{receiver} laughed and put on {receiver.his} hat.",
        f"{receiver} understood.",
    )
    ending(story, hero, receiver)
