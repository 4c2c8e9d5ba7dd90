"""The list of plots, and `generate_story`, which picks one of them."""

from __future__ import annotations

from gptzoo.data.corpora.story_grammar import games, home, journeys
from gptzoo.data.corpora.story_grammar.grammar import StoryBuilder

PLOTS = (
    journeys.lost_and_found,
    journeys.errand,
    journeys.treasure_map,
    journeys.passing_on,
    journeys.trading,
    journeys.message,
    games.race,
    games.parade,
    games.magic_words,
    games.tower,
    games.hide_and_seek,
    games.choosing,
    games.spelling,
    home.recipe,
    home.garden,
    home.week,
    home.guests,
    home.song,
    home.storm,
    home.rescue,
)


def generate_story(seed: int) -> str:
    """Return the story for a seed: a title line, then one line per paragraph, each ended by a newline."""
    story = StoryBuilder(seed)
    plot = story.pick(PLOTS)
    plot(story)
    return story.text()
