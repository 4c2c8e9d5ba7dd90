"""MQAR samples are those of the paper, checked by a slow reader that shares no code with the generator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from gptzoo_tasks import Mqar

import gptzoo


def task(**options: Any) -> Mqar:
    built = Mqar.Config.model_validate({"type": "mqar", **options}).build()
    assert isinstance(built, Mqar)
    return built


def check(tokens: list[int], targets: list[int], n_pairs: int, vocab_size: int) -> None:
    """Read a sample from left to right and require that each question has one right answer."""
    keys, values = range(1, vocab_size // 2), range(vocab_size // 2, vocab_size)
    context = tokens[: 2 * n_pairs]
    value_of: dict[int, int] = {}
    for key, value in zip(context[::2], context[1::2], strict=True):
        assert key in keys
        assert value in values
        assert key not in value_of
        assert value not in value_of.values()
        value_of[key] = value
    assert all(target == gptzoo.IGNORED_TARGET for target in targets[: 2 * n_pairs])
    asked = []
    for position in range(2 * n_pairs, len(tokens)):
        is_asked = targets[position] != gptzoo.IGNORED_TARGET
        # Filler that were a key of the sample would be a question without a target, and would overwrite its pair.
        assert is_asked == (tokens[position] in value_of)
        if is_asked:
            assert targets[position] == value_of[tokens[position]]
            asked.append(tokens[position])
    assert sorted(asked) == sorted(value_of)  # every key is asked for once


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"length": 16, "n_pairs": 4, "vocab_size": 10},  # no room for filler between queries, and all keys are used
        {"length": 40, "n_pairs": 3, "vocab_size": 8},  # much filler of few tokens
        {"length": 128, "n_pairs": 16, "vocab_size": 8192, "power": 1.0},
        {"filler": "blank"},
    ],
)
def test_samples_are_those_of_the_paper(options: dict[str, Any]) -> None:
    of = task(**options)
    for split in ("train", "val"):
        for index in range(150):
            tokens, targets = of.sample(split, index)  # type: ignore[arg-type]
            check(tokens.tolist(), targets.tolist(), of.config.n_pairs, of.config.vocab_size)
            if of.config.filler == "blank":
                asked = targets != gptzoo.IGNORED_TARGET
                asked[: 2 * of.config.n_pairs] = True
                assert not tokens[~asked].any()


def test_queries_stand_at_even_distances_with_the_gaps_of_the_power_law() -> None:
    of = task(length=24, n_pairs=1)
    places = [int(np.flatnonzero(of.sample("train", i).targets >= 0)[0]) for i in range(3000)]
    weights = np.arange(1, 12) ** (0.01 - 1)
    expected = weights / weights.sum()
    assert {place % 2 for place in places} == {0}
    assert np.bincount(np.array(places) // 2 - 1, minlength=11) / 3000 == pytest.approx(expected, abs=0.035)


def test_chance_is_the_share_of_the_likeliest_value() -> None:
    of = task(vocab_size=20)
    answers = np.concatenate([s.targets[s.targets >= 0] for s in (of.sample("train", i) for i in range(2000))])
    counts = np.bincount(answers, minlength=20)
    assert (counts > 0).sum() == 10
    assert counts.max() / counts.sum() == pytest.approx(of.chance["accuracy"], abs=0.01)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"vocab_size": 9}, "vocab_size must be even, got 9"),
        ({"length": 14}, "length must be even and at least 16, 4 for each pair, got 14"),
        ({"length": 17}, "length must be even and at least 16, 4 for each pair, got 17"),
        ({"vocab_size": 8}, "vocab_size 8 has 3 keys, too few for n_pairs 4"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, Any], reason: str) -> None:
    model = {"context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 1}
    with pytest.raises(gptzoo.SpecError, match=reason):
        gptzoo.load_run_spec({"model": model, "corpus": {"type": "mqar", **options}, "steps": 1})
