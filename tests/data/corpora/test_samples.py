"""Corpora of samples: splits by content, levels, the alphabet, and what they cannot be used for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import admit, small
from toy_task import Echo, echo_run

import gptzoo
from gptzoo import registry
from gptzoo.data.corpora.samples import SampleCorpus, has_held_out_content
from gptzoo.data.prepare import prepare
from gptzoo.data.token_store import SPLITS


@pytest.fixture(autouse=True)
def echo(fresh_registry: registry.Registry) -> None:
    admit(Echo)


def corpus(**options: Any) -> SampleCorpus:
    return Echo.Config(type="echo", **options).build()


def contents(of: SampleCorpus, split: Any) -> set[bytes]:
    return {of.sample(split, index).tokens.tobytes() for index in range(of.n_samples(split))}


def test_no_training_sample_of_any_seed_or_level_is_a_held_out_sample_of_another() -> None:
    corpora = [corpus(seed=seed, length=4, n_tokens=3, n_train=300, n_val=100) for seed in range(4)]
    level = corpus(length=8, n_tokens=3, levels={"short": {"length": 4}}).evaluation_sets()["short"]
    assert isinstance(level, SampleCorpus)
    train = set.union(*(contents(one, "train") for one in corpora))
    held_out = set.union(*(contents(one, "val") for one in [*corpora, level]))
    assert len(train) + len(held_out) == 3**4  # every content is in one of the two
    assert not train & held_out


def test_a_quarter_of_the_contents_is_held_out() -> None:
    samples = [Echo.generate(corpus(), gptzoo.Draws(index)) for index in range(4000)]  # type: ignore[arg-type]
    assert 0.22 < np.mean([has_held_out_content(sample) for sample in samples]) < 0.28


def test_options_that_leave_a_split_without_samples_are_reported() -> None:
    with pytest.raises(
        gptzoo.DataError, match=r"too few different samples .* Use a larger vocabulary or longer samples"
    ):
        [corpus(length=2, n_tokens=1).sample(split, 0) for split in SPLITS]  # a single content


@pytest.mark.parametrize(
    ("levels", "reason"),
    [
        ({"long": {"lenght": 4}}, r"levels.long.lenght: 'echo' has no option 'lenght'; did you mean 'length'\?"),
        ({"long": {"length": 1}}, "levels.long.length: .*greater than or equal to 2"),
        ({"other": {"n_tokens": 7}}, "levels: other: has 7 tokens and the training samples 6. They must be equal"),
        ({"accuracy": {"length": 9}}, "levels: 'accuracy' is the name of a metric. Choose another name"),
        ({"loss": {"length": 9}}, "levels: 'loss' is the name of a metric"),
        ({"x": {"levels": {}}}, "levels: x: cannot set levels, which all levels share"),
        ({"x": {"seed": 2, "length": 4}}, "levels: x: cannot set seed, which all levels share"),
        ({"Long": {}}, "levels.Long"),
    ],
)
def test_levels_are_checked_when_a_spec_is_read(levels: Any, reason: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=reason):
        gptzoo.load_run_spec(echo_run(corpus={"type": "echo", "levels": levels}))


def test_the_text_of_a_sample_has_one_character_for_each_token() -> None:
    tokenizer, store = prepare(corpus(n_tokens=300), gptzoo.load_run_spec(echo_run()).tokenizer)
    assert store.vocab_size == tokenizer.vocab_size == 300
    text = tokenizer.decode(range(300))
    assert len(text) == 300
    assert text[0] == "\n"
    assert not any(character.isspace() for character in text[1:])
    assert list(tokenizer.encode(text)) == list(range(300))
    with pytest.raises(gptzoo.DataError, match=r"40000 token ids are more than the .* Use a smaller vocabulary"):
        corpus(n_tokens=40_000).alphabet()


def test_the_corpus_names_its_tokenizer_and_batching() -> None:
    spec = gptzoo.load_run_spec(echo_run())
    assert (spec.tokenizer.type, spec.batching.type) == ("char", "samples")
    assert gptzoo.load_run_spec(spec.resolved()) == spec
    text = gptzoo.load_run_spec({"model": small(), "steps": 1})
    assert (text.tokenizer.type, text.batching.type) == ("byte", "windows")


def test_a_batching_of_text_is_refused_for_samples_and_the_other_way_round() -> None:
    with pytest.raises(
        gptzoo.SpecError, match=r"'windows' reads documents, and corpus 'echo' provides samples. Use batch"
    ):
        gptzoo.load_run_spec(echo_run(batching="windows"))
    with pytest.raises(
        gptzoo.SpecError, match=r"'samples' reads samples, and corpus 'stories' provides documents. Use bat"
    ):
        gptzoo.load_run_spec(echo_run(corpus="stories", batching="samples"))


def test_another_tokenizer_is_refused() -> None:
    with pytest.raises(
        gptzoo.DataError, match=r"'byte' does not map its 6 characters to the ids 0 to 5. Use tokenizer 'c"
    ):
        prepare(corpus(), gptzoo.load_run_spec(echo_run(tokenizer="byte")).tokenizer)


@pytest.mark.parametrize(
    "around",
    [
        {"type": "train_val", "train": "echo", "val": "stories"},
        {"type": "mixture", "parts": [{"corpus": "echo", "weight": 1}, {"corpus": "stories", "weight": 1}]},
    ],
)
def test_samples_cannot_be_a_part_of_a_text_corpus(around: dict[str, Any]) -> None:
    with pytest.raises(gptzoo.SpecError, match=r"'echo' generates samples and has no documents of text"):
        gptzoo.load_run_spec(echo_run(corpus=around))
    with pytest.raises(gptzoo.DataError, match=r"'echo' generates samples and has no documents of text"):
        list(corpus().documents("val"))


def test_the_fingerprint_covers_everything_that_changes_training_samples() -> None:
    same = corpus(levels={"long": {"length": 20}}).fingerprint(), corpus().fingerprint()
    assert same[0] == same[1]
    others = [corpus(seed=2), corpus(length=9), corpus(n_train=5), corpus(n_val=5)]
    assert len({same[0], *(other.fingerprint() for other in others)}) == 5
    assert corpus(n_train=5).held_out_digest() == corpus().held_out_digest() != corpus(n_val=5).held_out_digest()
