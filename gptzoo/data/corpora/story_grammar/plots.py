"""All plots, and `tell`, which picks one."""

from __future__ import annotations

from gptzoo.data.corpora.story_grammar import games, home, journeys
from gptzoo.data.corpora.story_grammar.grammar import Teller

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


def tell(seed: int) -> str:
    """The story of that number: a title, then a line for each paragraph, each line ended by a newline."""
    teller = Teller(seed)
    teller.pick(PLOTS)(teller)
    return teller.text()
