"""Scenes that fit into any plot: how a story opens, what happens on the way, and how it ends."""

from __future__ import annotations

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Person, Teller, listing, with_article


def said(t: Teller, who: object) -> str:
    return f"{t.pick(words.SAID)} {who}"


def moved(t: Teller) -> str:
    return t.pick(words.MOVED)


def place(t: Teller) -> tuple[str, str]:
    """Being there and going there: `("by the river", "to the river")`."""
    preposition, where = t.pick(words.PLACES)
    return f"{preposition} {where}", f"to {where}"


def opening(t: Teller, hero: Person, friend: Person | None = None) -> None:
    """Weather, who it is about, and where they go."""
    season = t.pick(tuple(words.WEATHER))
    adjectives, sights = words.WEATHER[season]
    sky, time = t.pick(adjectives), t.pick(words.TIMES)
    _, home = t.pick(words.PLACES)
    there, to_there = place(t)
    both = f"{hero} and {hero.his} friend {friend}" if friend else str(hero)
    t.paragraph(
        f"One {sky} {time} in {season}, {both} went {to_there}.",
        f"It was {with_article(sky)} {time} in {season}, and {both} {moved(t)} {to_there}.",
        f"{hero} was a {hero.child} who lived near {home}. One {sky} {time} {both} {moved(t)} {to_there}.",
        f"There was a {hero.child} named {hero}. On {with_article(sky)} {time} in {season}, {both} came {to_there}.",
        f"It happened {there}, on {with_article(sky)} {time} in {season}. {both} had come early.",
    )
    if t.chance(0.6):
        t.say(t.pick(sights))
    if t.chance(0.4):
        good = t.pick(words.FEELINGS_GOOD)
        t.say(f"{hero} was {good}.", f"{hero} felt {good} and hummed a little tune.", f"{hero} was {good}, as always.")


def opening_at_home(t: Teller, hero: Person, friend: Person | None = None) -> None:
    """Weather, and who is in the house."""
    season = t.pick(tuple(words.WEATHER))
    adjectives, sights = words.WEATHER[season]
    sky, time = t.pick(adjectives), t.pick(words.TIMES)
    _, near = t.pick(words.PLACES)
    t.paragraph(
        f"One {sky} {time} in {season}, {hero} sat at the window.",
        f"{hero} was a {hero.child} who lived in a {t.pick(words.COLOURS)} house near {near}.",
        f"There was once a {hero.child} named {hero}, in a small house near {near}.",
        f"It was {with_article(sky)} {time} in {season}, and {hero} had stayed at home.",
    )
    t.say(t.pick(sights))
    if friend:
        t.say(
            f"{friend} was there too.", f"{hero.his} friend {friend} had come to visit.", f"{friend} sat by the stove."
        )


def interlude(t: Teller, hero: Person) -> None:
    """Something small that happens on the way, most of the time."""
    if t.chance(0.2):
        return
    t.pick((_counting, _echo, _pocketing, _pocketing, _meeting, _snack, _feeling))(t, hero)


def _counting(t: Teller, hero: Person) -> None:
    one = t.pick(tuple(words.ANIMALS))
    count = t.number(2, 7)
    numbers = words.NUMBERS[:count]
    t.paragraph(
        f"{numbers[-1]} {words.ANIMALS[one]} crossed the road, one behind the other.",
        f"{numbers[-1]} {words.ANIMALS[one]} were resting in the shade.",
        f"On a wall sat {numbers[-1]} {words.ANIMALS[one]}.",
    )
    if t.chance(0.5):
        t.say(f'"{", ".join(numbers)}," counted {hero}.', f"{hero} counted them: {', '.join(numbers)}.")
    else:
        t.say(f"{hero} counted them from the last to the first: {', '.join(reversed(numbers))}.")


def _echo(t: Teller, hero: Person) -> None:
    call = f"{t.made_up()}, {t.made_up()}, {t.made_up()}"
    where = t.pick(("well", "cave", "valley", "tunnel", "old tower", "empty barn"))
    t.paragraph(f'"{call}!" {hero} shouted into the {where}.', f'{hero} called into the {where}: "{call}!"')
    t.say(f'"{call}!" said the echo.', f'"{call}!" answered the {where}.', f'Back came the echo: "{call}!"')


def _pocketing(t: Teller, hero: Person) -> None:
    found = t.things(1, "nature", "trinket")[0]
    if found in t.pocket:
        return
    t.pocket.append(found)
    where, _ = place(t)
    t.paragraph(
        f"{where} {hero} found {found.a} and put it in {hero.his} pocket.",
        f"Something lay on the ground. It was {found.a}! {hero} put it in {hero.his} pocket.",
        f"{hero} picked up {found.a}. It went into {hero.his} pocket.",
    )


def _meeting(t: Teller, hero: Person) -> None:
    animal = f"{t.pick(words.ANIMAL_ADJECTIVES)} {t.pick(tuple(words.ANIMALS))}"
    deed = t.pick(words.ANIMAL_DEEDS)
    t.paragraph(
        f"Then {hero} saw {with_article(animal)}.",
        f"{with_article(animal)} was there too.",
        f"Who was that? It was only {with_article(animal)}.",
    )
    t.say(f"The {animal.split()[1]} {deed}.", f'"Good day," said {hero}. The {animal.split()[1]} {deed}.')


def _snack(t: Teller, hero: Person) -> None:
    first, second = t.things(2, "food")
    t.paragraph(
        f"{hero} was hungry, and there was {first.a} in the bag, and {second.a} too.",
        f"It was time to eat. {hero} had brought {first.a} and {second.a}.",
    )
    t.say(
        f"First {hero.he} tried the {first}, then the {second}.",
        f"{hero} kept the {second} for later and finished the {first}.",
        f"The {first} was good, but the {second} was better.",
    )


def _feeling(t: Teller, hero: Person) -> None:
    bad, good = t.pick(words.FEELINGS_BAD), t.pick(words.FEELINGS_GOOD)
    t.paragraph(f"For a moment {hero} was {bad}.", f"Now {hero} felt {bad}.", f'"I am {bad}," {said(t, hero)}.')
    t.say(
        f"But {hero.he} took a deep breath, and soon {hero.he} was {good} again.",
        f"Then the sun came out, and {hero.he} felt {good}.",
        f"Who can be {bad} for long? Soon {hero.he} was {good}.",
    )


def ending(t: Teller, hero: Person, friend: Person | None = None) -> None:
    """Home again: the pocket is emptied, and there is something to be learnt."""
    if t.pocket:
        backwards = t.chance(0.5)
        found = [thing.the for thing in (reversed(t.pocket) if backwards else t.pocket)]
        t.paragraph(
            f"At home {hero} emptied {hero.his} pocket.", f"In the evening {hero} turned {hero.his} pocket out."
        )
        if len(found) == 1:
            t.say(f"There was {found[0]}.", f"Out came {found[0]}.", f"{found[0]} was still there.")
        elif backwards:
            t.say(f"What went in last came out first: {listing(found)}.")
        else:
            t.say(f"There it all was, as it had been found: {listing(found)}.", f"There was {listing(found)}.")
    good = t.pick(words.FEELINGS_GOOD)
    t.paragraph(
        f"{hero} went to bed {good}.",
        f"That night {hero} was {good}, and {hero.he} slept like a stone.",
        f"And {hero} was {good} for the rest of the week.",
        f'"What a day!" {said(t, hero)}.',
        f"{friend} and {hero} are friends to this day." if friend else f"{hero} never forgot that day.",
        f"That was the end of a good day for {hero} and {friend}." if friend else f"{hero} told everybody about it.",
    )
    if t.chance(0.4):
        t.say(t.pick(words.MORALS))
