"""Scenes for any plot: openings, interludes and endings."""

from __future__ import annotations

from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Person, StoryBuilder, listing, with_article


def said(story: StoryBuilder, speaker: object) -> str:
    """Return a verb of speaking and the speaker, such as "whispered Ada"."""
    return f"{story.pick(words.SAID)} {speaker}"


def moved(story: StoryBuilder) -> str:
    """Return a verb of motion, such as "strolled"."""
    return story.pick(words.MOVED)


def pick_place(story: StoryBuilder) -> tuple[str, str]:
    """Pick a place and return phrases for being there and going there: `("by the river", "to the river")`."""
    preposition, noun = story.pick(words.PLACES)
    return f"{preposition} {noun}", f"to {noun}"


def opening(story: StoryBuilder, hero: Person, friend: Person | None = None) -> None:
    """Introduce the weather, the characters and the place they go to."""
    season = story.pick(tuple(words.WEATHER))
    adjectives, sights = words.WEATHER[season]
    sky, time = story.pick(adjectives), story.pick(words.TIMES)
    _, home = story.pick(words.PLACES)
    location, to_location = pick_place(story)
    people = f"{hero} and {hero.his} friend {friend}" if friend else str(hero)
    day = f"{with_article(sky)} {time} in {season}"
    story.paragraph(
        f"One {sky} {time} in {season}, {people} went {to_location}.",
        f"It was {day}, and {people} {moved(story)} {to_location}.",
        f"{hero} was a {hero.child} who lived near {home}. One {sky} {time} {people} {moved(story)} {to_location}.",
        f"There was a {hero.child} named {hero}. On {day}, {people} came {to_location}.",
        f"It happened {location}, on {day}. {people} had come early.",
    )
    if story.chance(0.6):
        story.say(story.pick(sights))
    if story.chance(0.4):
        good = story.pick(words.FEELINGS_GOOD)
        story.say(
            f"{hero} was {good}.", f"{hero} felt {good} and hummed a little tune.", f"{hero} was {good}, as always."
        )


def opening_at_home(story: StoryBuilder, hero: Person, friend: Person | None = None) -> None:
    """Introduce the weather and the characters in the house."""
    season = story.pick(tuple(words.WEATHER))
    adjectives, sights = words.WEATHER[season]
    sky, time = story.pick(adjectives), story.pick(words.TIMES)
    _, landmark = story.pick(words.PLACES)
    story.paragraph(
        f"One {sky} {time} in {season}, {hero} sat at the window.",
        f"{hero} was a {hero.child} who lived in a {story.pick(words.COLOURS)} house near {landmark}.",
        f"There was once a {hero.child} named {hero}, in a small house near {landmark}.",
        f"It was {with_article(sky)} {time} in {season}, and {hero} had stayed at home.",
    )
    story.say(story.pick(sights))
    if friend:
        story.say(
            f"{friend} was there too.", f"{hero.his} friend {friend} had come to visit.", f"{friend} sat by the stove."
        )


def interlude(story: StoryBuilder, hero: Person) -> None:
    """Add a small event on the way, with probability 0.8."""
    if story.chance(0.2):
        return
    story.pick((_counting, _echo, _pocketing, _pocketing, _meeting, _snack, _feeling))(story, hero)


def _counting(story: StoryBuilder, hero: Person) -> None:
    animal = story.pick(tuple(words.ANIMALS))
    count = story.number(2, 7)
    numbers = words.NUMBERS[:count]
    story.paragraph(
        f"{numbers[-1]} {words.ANIMALS[animal]} crossed the road, one behind the other.",
        f"{numbers[-1]} {words.ANIMALS[animal]} were resting in the shade.",
        f"On a wall sat {numbers[-1]} {words.ANIMALS[animal]}.",
    )
    if story.chance(0.5):
        story.say(f'"{", ".join(numbers)}," counted {hero}.', f"{hero} counted them: {', '.join(numbers)}.")
    else:
        story.say(f"{hero} counted them from the last to the first: {', '.join(reversed(numbers))}.")


def _echo(story: StoryBuilder, hero: Person) -> None:
    call = f"{story.invented_word()}, {story.invented_word()}, {story.invented_word()}"
    location = story.pick(("well", "cave", "valley", "tunnel", "old tower", "empty barn"))
    story.paragraph(f'"{call}!" {hero} shouted into the {location}.', f'{hero} called into the {location}: "{call}!"')
    story.say(f'"{call}!" said the echo.', f'"{call}!" answered the {location}.', f'Back came the echo: "{call}!"')


def _pocketing(story: StoryBuilder, hero: Person) -> None:
    thing = story.things(1, "nature", "trinket")[0]
    if thing in story.pocket:
        return
    story.pocket.append(thing)
    location, _ = pick_place(story)
    story.paragraph(
        f"{location} {hero} found {thing.a} and put it in {hero.his} pocket.",
        f"Something lay on the ground. It was {thing.a}! {hero} put it in {hero.his} pocket.",
        f"{hero} picked up {thing.a}. It went into {hero.his} pocket.",
    )


def _meeting(story: StoryBuilder, hero: Person) -> None:
    animal = f"{story.pick(words.ANIMAL_ADJECTIVES)} {story.pick(tuple(words.ANIMALS))}"
    deed = story.pick(words.ANIMAL_DEEDS)
    story.paragraph(
        f"Then {hero} saw {with_article(animal)}.",
        f"{with_article(animal)} was there too.",
        f"Who was that? It was only {with_article(animal)}.",
    )
    story.say(f"The {animal.split()[1]} {deed}.", f'"Good day," said {hero}. The {animal.split()[1]} {deed}.')


def _snack(story: StoryBuilder, hero: Person) -> None:
    first, second = story.things(2, "food")
    story.paragraph(
        f"{hero} was hungry, and there was {first.a} in the bag, and {second.a} too.",
        f"It was time to eat. {hero} had brought {first.a} and {second.a}.",
    )
    story.say(
        f"First {hero.he} tried the {first}, then the {second}.",
        f"{hero} kept the {second} for later and finished the {first}.",
        f"The {first} was good, but the {second} was better.",
    )


def _feeling(story: StoryBuilder, hero: Person) -> None:
    bad, good = story.pick(words.FEELINGS_BAD), story.pick(words.FEELINGS_GOOD)
    story.paragraph(f"For a moment {hero} was {bad}.", f"Now {hero} felt {bad}.", f'"I am {bad}," {said(story, hero)}.')
    story.say(
        f"But {hero.he} took a deep breath, and soon {hero.he} was {good} again.",
        f"Then the sun came out, and {hero.he} felt {good}.",
        f"Who can be {bad} for long? Soon {hero.he} was {good}.",
    )


def ending(story: StoryBuilder, hero: Person, friend: Person | None = None) -> None:
    """End the story: the hero empties the pocket, goes home, and sometimes there is a moral."""
    if story.pocket:
        backwards = story.chance(0.5)
        items = [thing.the for thing in (reversed(story.pocket) if backwards else story.pocket)]
        story.paragraph(
            f"At home {hero} emptied {hero.his} pocket.", f"In the evening {hero} turned {hero.his} pocket out."
        )
        if len(items) == 1:
            story.say(f"There was {items[0]}.", f"Out came {items[0]}.", f"{items[0]} was still there.")
        elif backwards:
            story.say(f"What went in last came out first: {listing(items)}.")
        else:
            story.say(f"There it all was, as it had been found: {listing(items)}.", f"There was {listing(items)}.")
    good = story.pick(words.FEELINGS_GOOD)
    story.paragraph(
        f"{hero} went to bed {good}.",
        f"That night {hero} was {good}, and {hero.he} slept like a stone.",
        f"And {hero} was {good} for the rest of the week.",
        f'"What a day!" {said(story, hero)}.',
        f"{friend} and {hero} are friends to this day." if friend else f"{hero} never forgot that day.",
        f"That was the end of a good day for {hero} and {friend}." if friend else f"{hero} told everybody about it.",
    )
    if story.chance(0.4):
        story.say(story.pick(words.MORALS))
