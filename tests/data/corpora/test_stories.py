import hashlib
import itertools
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from gptzoo.data.corpora import stories
from gptzoo.data.corpora.stories import StoriesCorpus
from gptzoo.data.corpora.story_grammar import words
from gptzoo.data.corpora.story_grammar.grammar import Teller, listing, sentences
from gptzoo.data.corpora.story_grammar.plots import PLOTS, tell
from gptzoo.reference import Reference

MANY = [tell(number) for number in range(400)]


def corpus(**options: int) -> StoriesCorpus:
    return Reference("corpus").validate({"type": "stories", **options}).build()


def test_the_default_is_some_megabytes_with_one_story_in_twenty_held_out() -> None:
    train, val = (list(corpus().documents(split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (3800, 200)
    assert 2e6 < len("".join(train)) < 4e6


def test_the_same_stories_are_told_in_another_process() -> None:
    code = (
        "from gptzoo.data.corpora.stories import StoriesCorpus as S; import hashlib\n"
        "text = ''.join(S(S.Config(n_stories=60)).documents('train'))\n"
        "print(hashlib.sha256(text.encode()).hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_stories_need_no_torch() -> None:
    code = "import sys, gptzoo.data.corpora.stories, gptzoo.data.token_store, gptzoo.data.batching.order; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_story_is_in_both_splits_even_when_two_numbers_tell_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "tell", lambda number: f"story {number % 7}\n")
    train, val = (list(corpus(n_stories=40).documents(split)) for split in ("train", "val"))
    assert len(train) == 38
    assert len(val) == 2
    assert not set(train) & set(val)


def test_the_splits_are_told_from_different_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "tell", lambda number: number)
    train, val = (list(corpus(n_stories=100).documents(split)) for split in ("train", "val"))
    assert {int(number) % 2 for number in train} == {0}
    assert {int(number) % 2 for number in val} == {1}


@pytest.mark.parametrize("n_stories", [2, 19, 100])
def test_there_are_as_many_stories_as_asked_for_and_never_none(n_stories: int) -> None:
    train, val = (list(corpus(n_stories=n_stories).documents(split)) for split in ("train", "val"))
    assert len(train) + len(val) == n_stories
    assert train
    assert val


def test_seeds_have_no_story_in_common() -> None:
    first, second = (set(corpus(n_stories=200, seed=seed).documents("train")) for seed in (1, 2))
    assert not first & second


def test_the_fingerprint_changes_with_every_option_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert corpus().fingerprint() == corpus(n_stories=4000, seed=1).fingerprint()
    prints = [corpus().fingerprint(), corpus(seed=2).fingerprint(), corpus(n_stories=50).fingerprint()]
    monkeypatch.setattr(stories, "_VERSION", stories._VERSION + 1)
    prints.append(corpus().fingerprint())
    assert len(set(prints)) == 4


def test_the_text_is_the_one_that_the_version_stands_for() -> None:
    """If this fails, a word or a plot changed: raise `_VERSION` in gptzoo/data/corpora/stories.py and keep the new digest."""
    golden = Path(__file__).with_name("stories_digest.txt").read_text(encoding="utf-8").split()
    assert golden == [str(stories._VERSION), stories_digest()]


def stories_digest() -> str:
    return hashlib.sha256("".join(tell(number) for number in range(2000)).encode()).hexdigest()


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_every_plot_is_well_formed_prose(plot: object) -> None:
    for seed in range(60):
        teller = Teller(seed)
        plot(teller)  # type: ignore[operator]
        title, *lines = teller.text().removesuffix("\n").split("\n")
        assert re.fullmatch(r"[A-Z][\w' ,]*", title), title
        assert len(lines) >= 3
        for line in lines:
            assert re.fullmatch(r'"?[A-Z].*[.!?]"?', line), line
            assert line.count('"') % 2 == 0, line
            assert "  " not in line, line
            assert not re.search(r"[ .,][,.!?]", line.replace(". ", " ")), line
            assert not re.search(r'\." "?[a-z]|[.!?] "?[a-z]', line.replace('?" ', " ").replace('!" ', " ")), line


def test_articles_agree_with_the_next_letter() -> None:
    for story in MANY:
        assert not re.search(r"\b[Aa] [aeiouAEIOU]", story), story
        assert not re.search(r"\b[Aa]n [^aeiouAEIOU]", story), story


def test_no_word_begins_with_a_letter_that_lies_about_its_article() -> None:
    nouns = [noun for adjectives, nouns in words.THINGS.values() for noun in (*adjectives, *nouns)]
    for word in (*nouns, *words.ANIMALS, *words.ANIMAL_ADJECTIVES, *words.COLOURS, *words.TRADES):
        assert not re.match(r"uni|use|usu|eu|one|once|ho(ur|nest|nour)|heir", word), word


def test_pronouns_agree_with_the_hero() -> None:
    for story in MANY:
        girl = re.search(r"(\w+) was a girl|There was (?:once )?a girl named (\w+)", story)
        if girl:
            hero = girl[1] or girl[2]
            assert not re.search(rf"\b{hero}\b[^.]* (in|emptied|turned|waiting for) his\b", story), story


def test_what_is_asked_was_told_before() -> None:
    """The generator keeps its promise that questions can be answered from the story."""
    asked = 0
    for story in MANY:
        if match := re.search(r'"Who walked behind (.+?)\?" asked \w+\. "(.+?),"', story):
            asked += 1
            row = re.search(r"so that the last was the first: (.+)\.", story)
            order = re.split(r", | and ", row[1])[::-1]  # type: ignore[index]
            assert order.index(match[2].lower()) == order.index(match[1].lower()) + 1
    assert asked >= 5


def test_the_vocabulary_is_rich_and_no_plot_rules() -> None:
    counts = Counter(re.findall(r"[a-z]+", "".join(MANY).lower()))
    assert sum(count >= 3 for count in counts.values()) > 700
    titles = [story.split("\n", 1)[0] for story in MANY]
    assert len(set(titles)) > 200
    assert len(set(MANY)) == len(MANY)


def test_sentences_begin_with_a_capital_and_speech_tags_do_not() -> None:
    assert sentences('"who has it?" "the fox." he ran.') == '"Who has it?" "The fox." He ran.'
    assert sentences('"where is it?" asked Tom. it was gone.') == '"Where is it?" asked Tom. It was gone.'
    assert sentences('"tell her," he said: "come!" said Mia.') == '"Tell her," he said: "Come!" said Mia.'
    assert sentences("from top to bottom: red and blue.") == "From top to bottom: red and blue."


def test_a_listing_reads_like_english() -> None:
    assert [listing("abcd"[:n]) for n in range(1, 5)] == ["a", "a and b", "a, b and c", "a, b, c and d"]


def test_a_teller_throws_fair_dice() -> None:
    teller = Teller(0)
    counts = Counter(teller.number(1, 6) for _ in range(6000))
    assert sorted(counts) == [1, 2, 3, 4, 5, 6]
    assert all(850 < count < 1150 for count in counts.values())
    samples = [tuple(teller.sample("abc", 3)) for _ in range(600)]
    assert set(samples) == set(itertools.permutations("abc"))
