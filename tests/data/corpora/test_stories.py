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
from gptzoo.data.corpora.story_grammar.grammar import StoryBuilder, capitalize_sentences, listing
from gptzoo.data.corpora.story_grammar.plots import PLOTS, generate_story
from gptzoo.reference import Reference

MANY = [generate_story(number) for number in range(400)]


def corpus(**options: int) -> StoriesCorpus:
    return Reference("corpus").validate({"type": "stories", **options}).build()


def test_by_default_one_of_twenty_stories_is_held_out() -> None:
    train, val = (list(corpus().documents(split)) for split in ("train", "val"))
    assert (len(train), len(val)) == (3800, 200)
    assert 2e6 < len("".join(train)) < 4e6


def test_another_process_generates_the_same_stories() -> None:
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


def test_stories_are_generated_without_torch() -> None:
    code = (
        "import sys, gptzoo.data.corpora.stories, gptzoo.data.token_store, gptzoo.data.batching.windows"
        "; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_no_story_is_in_both_splits_even_if_two_seeds_give_the_same_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "generate_story", lambda number: f"story {number % 7}\n")
    train, val = (list(corpus(n_stories=40).documents(split)) for split in ("train", "val"))
    assert len(train) == 38
    assert len(val) == 2
    assert not set(train) & set(val)


def test_the_splits_use_different_story_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "generate_story", lambda number: number)
    train, val = (list(corpus(n_stories=100).documents(split)) for split in ("train", "val"))
    assert {int(number) % 2 for number in train} == {0}
    assert {int(number) % 2 for number in val} == {1}


@pytest.mark.parametrize("n_stories", [2, 19, 100])
def test_n_stories_is_the_total_and_no_split_is_empty(n_stories: int) -> None:
    train, val = (list(corpus(n_stories=n_stories).documents(split)) for split in ("train", "val"))
    assert len(train) + len(val) == n_stories
    assert train
    assert val


def test_different_corpus_seeds_share_no_story() -> None:
    first, second = (set(corpus(n_stories=200, seed=seed).documents("train")) for seed in (1, 2))
    assert not first & second


def test_the_fingerprint_changes_with_every_option_and_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    assert corpus().fingerprint() == corpus(n_stories=4000, seed=1).fingerprint()
    fingerprints = [corpus().fingerprint(), corpus(seed=2).fingerprint(), corpus(n_stories=50).fingerprint()]
    monkeypatch.setattr(stories, "_VERSION", stories._VERSION + 1)
    fingerprints.append(corpus().fingerprint())
    assert len(set(fingerprints)) == 4


def test_the_generated_text_matches_the_pinned_digest() -> None:
    """Pin the text to the version.

    After a change of a word or a plot, raise `_VERSION` in gptzoo/data/corpora/stories.py and save the new digest.
    """
    golden = Path(__file__).with_name("stories_digest.txt").read_text(encoding="utf-8").split()
    assert golden == [str(stories._VERSION), stories_digest()]


def stories_digest() -> str:
    return hashlib.sha256("".join(generate_story(number) for number in range(2000)).encode()).hexdigest()


@pytest.mark.parametrize("plot", PLOTS, ids=lambda plot: plot.__name__)
def test_every_plot_gives_well_formed_prose(plot: object) -> None:
    for seed in range(60):
        builder = StoryBuilder(seed)
        plot(builder)  # type: ignore[operator]
        title, *lines = builder.text().removesuffix("\n").split("\n")
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


def test_no_word_needs_an_article_that_its_first_letter_does_not_suggest() -> None:
    nouns = [noun for adjectives, nouns in words.THINGS.values() for noun in (*adjectives, *nouns)]
    for word in (*nouns, *words.ANIMALS, *words.ANIMAL_ADJECTIVES, *words.COLOURS, *words.TRADES):
        assert not re.match(r"uni|use|usu|eu|one|once|ho(ur|nest|nour)|heir", word), word


def test_pronouns_agree_with_the_hero() -> None:
    for story in MANY:
        girl = re.search(r"(\w+) was a girl|There was (?:once )?a girl named (\w+)", story)
        if girl:
            hero = girl[1] or girl[2]
            assert not re.search(rf"\b{hero}\b[^.]* (in|emptied|turned|waiting for) his\b", story), story


def test_questions_can_be_answered_from_the_story() -> None:
    n_questions = 0
    for story in MANY:
        if match := re.search(r'"Who walked behind (.+?)\?" asked \w+\. "(.+?),"', story):
            n_questions += 1
            row = re.search(r"so that the last was the first: (.+)\.", story)
            order = re.split(r", | and ", row[1])[::-1]  # type: ignore[index]
            assert order.index(match[2].lower()) == order.index(match[1].lower()) + 1
    assert n_questions >= 5


def test_the_vocabulary_is_rich_and_the_stories_are_varied() -> None:
    counts = Counter(re.findall(r"[a-z]+", "".join(MANY).lower()))
    assert sum(count >= 3 for count in counts.values()) > 700
    titles = [story.split("\n", 1)[0] for story in MANY]
    assert len(set(titles)) > 200
    assert len(set(MANY)) == len(MANY)


def test_sentences_are_capitalised_and_speech_tags_are_not() -> None:
    assert capitalize_sentences('"who has it?" "the fox." he ran.') == '"Who has it?" "The fox." He ran.'
    assert capitalize_sentences('"where is it?" asked Tom. it was gone.') == '"Where is it?" asked Tom. It was gone.'
    assert capitalize_sentences('"tell her," he said: "come!" said Mia.') == '"Tell her," he said: "Come!" said Mia.'
    assert capitalize_sentences("from top to bottom: red and blue.") == "From top to bottom: red and blue."


def test_a_listing_uses_commas_and_a_final_and() -> None:
    assert [listing("abcd"[:n]) for n in range(1, 5)] == ["a", "a and b", "a, b and c", "a, b, c and d"]


def test_random_choices_are_uniform() -> None:
    builder = StoryBuilder(0)
    counts = Counter(builder.number(1, 6) for _ in range(6000))
    assert sorted(counts) == [1, 2, 3, 4, 5, 6]
    assert all(850 < count < 1150 for count in counts.values())
    samples = [tuple(builder.sample("abc", 3)) for _ in range(600)]
    assert set(samples) == set(itertools.permutations("abc"))
