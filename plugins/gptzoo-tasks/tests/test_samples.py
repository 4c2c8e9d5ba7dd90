"""The samples of every task but MQAR are those of the papers, checked by slow readers that share no code with them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from gptzoo_tasks import TASKS

import gptzoo
from gptzoo.utils.proportion import Proportion

IGNORED = gptzoo.IGNORED_TARGET
SPLITS: tuple[Any, ...] = ("train", "val")


def task(name: str, **options: Any) -> Any:
    component = next(task for task in TASKS if task.name == name)
    return component.Config.model_validate({"type": name, **options}).build()


def samples(of: Any, n: int = 80) -> list[tuple[list[int], list[int]]]:
    """Return training and held-out samples as lists."""
    drawn = (of.sample(split, index) for split in SPLITS for index in range(n))
    return [(tokens.tolist(), targets.tolist()) for tokens, targets in drawn]


def asked(targets: list[int]) -> list[int]:
    return [position for position, target in enumerate(targets) if target != IGNORED]


# ---------------------------------------------------------------------- all tasks

SMALL: dict[str, dict[str, Any]] = {
    "mqar": {"length": 16, "n_pairs": 2, "vocab_size": 8},
    "in_context_recall": {"length": 8, "n_keys": 3, "n_values": 3},
    "noisy_recall": {"length": 8, "n_keys": 3, "n_values": 3, "n_noise": 2},
    "fuzzy_recall": {"length": 12, "n_pairs": 2, "n_keys": 2, "n_values": 3, "key_size": 2, "value_size": 2},
    "selective_copying": {"length": 10, "n_copied": 3, "n_tokens": 4},
    "compression": {"length": 9, "n_tokens": 4},
    "memorization": {"length": 6, "n_facts": 5},
    "induction_heads": {"length": 6, "n_tokens": 4},
    "passkey": {"length": 9, "n_digits": 2, "n_filler": 2},
    "state_tracking": {"length": 6, "n_objects": 3},
    "modular_addition": {"modulus": 11, "n_train": 60, "n_val": 61},
}


def test_every_task_is_checked() -> None:
    assert sorted(SMALL) == sorted(task.name for task in TASKS)


@pytest.mark.parametrize("name", SMALL)
def test_training_and_held_out_samples_are_disjoint_by_content(name: str) -> None:
    of = task(name, **{"n_train": 400, "n_val": 300, **SMALL[name]})
    train, val = (
        {of.sample(split, index).tokens.tobytes() for index in range(of.n_samples(split))} for split in SPLITS
    )
    assert train
    assert val
    assert not train & val


@pytest.mark.parametrize("name", SMALL)
def test_chance_is_the_accuracy_of_the_best_predictor_that_sees_one_token(name: str) -> None:
    """The predictor learns the likeliest answer to each token from some samples, and answers one question of others."""
    of = task(name, **({} if name != "modular_addition" else {"n_train": 6000, "n_val": 3000}))
    rng = np.random.default_rng(1)
    counts: dict[int, np.ndarray] = {}
    hits, n = 0, 1500
    for index in range(2 * n):
        tokens, targets = of.sample("train", index)
        position = int(rng.choice(np.flatnonzero(targets != IGNORED)))
        token, answer = int(tokens[position]), int(targets[position])
        seen = counts.setdefault(token, np.zeros(of.vocab_size))
        if index < n:
            seen[answer] += 1
        else:
            hits += int(seen.argmax()) == answer
    low, high = Proportion(hits, n).interval(0.999)
    assert low <= of.chance["accuracy"] <= high


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("in_context_recall", {"length": 7}, "length must be even, for pairs of a key and a value, got 7"),
        ("fuzzy_recall", {"key_size": 9}, "key_size 9 needs as many different tokens, but n_keys is 8"),
        ("fuzzy_recall", {"n_pairs": 9, "key_size": 1}, "n_pairs 9 are more than the 8 different keys"),
        ("fuzzy_recall", {"length": 53}, "length must be at least 54, so that every pair and a question fit, got 53"),
        ("selective_copying", {"length": 16}, "length must be at least 17, twice n_copied and the copy token, got 16"),
        ("compression", {"length": 10}, "length must be odd, for a sequence and as many blanks, got 10"),
        ("memorization", {"length": 7}, "length must be even, for keys and insert tokens, got 7"),
        ("passkey", {"length": 10}, "length must be at least 11, the marker and the passkey twice, got 10"),
        ("modular_addition", {"modulus": 7}, "n_train 4704 and n_val 1000 are more than the 49 pairs of numbers below"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], reason: str) -> None:
    model = {"context_length": 64, "d_model": 8, "n_layers": 1, "n_heads": 1}
    with pytest.raises(gptzoo.SpecError, match=reason):
        gptzoo.load_run_spec({"model": model, "corpus": {"type": name, **options}, "steps": 1})


# ---------------------------------------------------------------------- recall


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("in_context_recall", {}),
        ("in_context_recall", {"length": 10, "n_keys": 40, "n_values": 3}),
        ("noisy_recall", {}),
        ("noisy_recall", {"noise": 0.9, "length": 20}),
    ],
)
def test_recall_asks_for_the_value_of_each_key_that_was_seen_before(name: str, options: dict[str, Any]) -> None:
    of = task(name, **options)
    first_value = 1 + of.config.n_keys
    first_noise = first_value + of.config.n_values
    n_noise = n_pairs = 0
    for tokens, targets in samples(of):
        value_of: dict[int, int] = {}
        for position in range(0, len(tokens), 2):
            key, value = tokens[position : position + 2]
            assert targets[position + 1] == IGNORED
            n_pairs += 1
            if key >= first_noise:
                assert first_noise <= value < of.vocab_size
                assert targets[position] == IGNORED
                n_noise += 1
                continue
            assert 1 <= key < first_value <= value < first_noise
            assert targets[position] == (value if key in value_of else IGNORED)
            assert value_of.setdefault(key, value) == value
        assert targets[-2] != IGNORED
    share = getattr(of.config, "noise", 0.0)
    n_free = of.config.length // 2 - 2  # the last pair, and one before it, are no noise
    assert n_noise / n_pairs == pytest.approx(share * n_free / (n_free + 2), abs=0.03)


@pytest.mark.parametrize(
    "options", [{}, {"length": 40, "n_pairs": 4, "n_keys": 2, "key_size": 2, "n_values": 3, "value_size": 2}]
)
def test_fuzzy_recall_asks_for_all_tokens_of_the_values_of_known_motifs(options: dict[str, Any]) -> None:
    of = task("fuzzy_recall", **options)
    config = of.config
    shares_first_token = False
    for tokens, targets in samples(of):
        value_of: dict[tuple[int, ...], tuple[int, ...]] = {}
        start = next(position for position, token in enumerate(tokens) if token)
        assert start < config.key_size + config.value_size
        assert asked(targets[:start]) == []
        runs = itertools.groupby(range(start, len(tokens)), key=lambda position: tokens[position] > config.n_keys)
        motifs = [(is_value, list(positions)) for is_value, positions in runs]
        assert [is_value for is_value, _ in motifs] == [False, True] * (len(motifs) // 2)
        expected = []
        for (_, key_positions), (_, value_positions) in zip(motifs[::2], motifs[1::2], strict=True):
            key, value = (tuple(tokens[p] for p in positions) for positions in (key_positions, value_positions))
            assert len(set(key)) == len(key) <= config.key_size
            assert len(set(value)) == len(value) <= config.value_size
            if key in value_of:
                expected += [(position - 1, tokens[position]) for position in value_positions]
            assert value_of.setdefault(key, value) == value
        assert len(value_of) == config.n_pairs
        assert [(position, targets[position]) for position in asked(targets)] == expected
        shares_first_token |= len({key[0] for key in value_of}) < len(value_of)
    assert shares_first_token  # so that the first token of a key does not identify it


# ---------------------------------------------------------------------- copying


@pytest.mark.parametrize("options", [{}, {"length": 7, "n_copied": 3}, {"n_copied": 1, "n_tokens": 2}])
def test_selective_copying_asks_for_the_tokens_in_order(options: dict[str, Any]) -> None:
    of = task("selective_copying", **options)
    places = set()
    for tokens, targets in samples(of):
        copy = tokens.index(1 + of.config.n_tokens)
        content = [token for token in tokens[:copy] if token]
        assert len(content) == of.config.n_copied
        assert tokens[copy + 1 :] == [0] * of.config.n_copied
        assert targets == [IGNORED] * (copy + 1) + content
        places.add(tuple(position for position in range(copy) if tokens[position]))
    assert len(places) > 1 or of.config.length == 2 * of.config.n_copied + 1


@pytest.mark.parametrize("options", [{}, {"noise": 0.5, "length": 11}])
def test_compression_asks_for_the_sequence_without_its_noise(options: dict[str, Any]) -> None:
    of = task("compression", **options)
    n_tokens, size = of.config.n_tokens, of.config.length // 2
    n_noise = 0
    for tokens, targets in samples(of):
        assert tokens[size:] == [1 + n_tokens] + [0] * size
        assert targets[: size + 1] == [IGNORED] * (size + 1)
        for shown, target in zip(tokens[:size], targets[size + 1 :], strict=True):
            is_noise = shown > 1 + n_tokens
            assert target == (IGNORED if is_noise else shown)
            n_noise += is_noise
    share = of.config.noise * (1 - 1 / size)
    assert n_noise / (160 * size) == pytest.approx(share, abs=0.06)


# ---------------------------------------------------------------------- looking up


@pytest.mark.parametrize("length", [3, 4, 64])
def test_induction_heads_asks_for_the_token_after_the_first_special_one(length: int) -> None:
    of = task("induction_heads", length=length)
    places = set()
    for tokens, targets in samples(of, 200):
        first, last = (position for position, token in enumerate(tokens) if token == 1)
        assert last == length - 1
        assert asked(targets) == [last]
        assert targets[last] == tokens[first + 1]
        places.add(first)
    assert places == set(range(length - 2)) or length > 10


@pytest.mark.parametrize("options", [{}, {"length": 11}, {"length": 300, "n_digits": 1}])
def test_the_passkey_stands_once_in_the_filler(options: dict[str, Any]) -> None:
    of = task("passkey", **options)
    n_digits = of.config.n_digits
    digits, filler = range(2, 12), range(12, 12 + of.config.n_filler)
    for tokens, targets in samples(of):
        first, second = (position for position, token in enumerate(tokens) if token == 1)
        passkey = tokens[first + 1 : first + 1 + n_digits]
        assert all(token in digits for token in passkey)
        assert second == len(tokens) - n_digits > first + n_digits
        assert tokens[second + 1 :] == passkey[:-1]
        assert targets == [IGNORED] * second + passkey
        others = tokens[:first] + tokens[first + 1 + n_digits : second]
        assert all(token in filler for token in others)


# ---------------------------------------------------------------------- facts and arithmetic


def test_memorization_has_the_same_facts_in_all_samples_of_a_seed() -> None:
    of = task("memorization", n_facts=20)
    value_of: dict[int, int] = {}
    for tokens, targets in samples(of):
        assert set(tokens[1::2]) == {1}
        assert targets[::2] == [IGNORED] * 16
        for key, value in zip(tokens[::2], targets[1::2], strict=True):
            assert value_of.setdefault(key, value) == value
    assert sorted(value_of) == list(range(2, 22))
    assert sorted(value_of.values()) == list(range(22, 42))
    other = task("memorization", n_facts=20, seed=2)
    assert dict(zip(range(20), other.value_of_key.tolist(), strict=True)) != {
        k - 2: v - 22 for k, v in value_of.items()
    }


def test_modular_addition_is_a_finite_set_that_is_divided() -> None:
    of = task("modular_addition", modulus=11, n_train=60, n_val=61)
    pairs = []
    for split, n in (("train", 60), ("val", 61)):
        for index in range(n):
            tokens, targets = of.sample(split, index)
            a, b, equals = tokens.tolist()
            assert equals == 1
            assert targets.tolist() == [IGNORED, IGNORED, 2 + (a - 2 + b - 2) % 11]
            pairs.append((a - 2, b - 2))
    assert sorted(pairs) == list(itertools.product(range(11), repeat=2))
    other = task("modular_addition", modulus=11, n_train=60, n_val=61, seed=2)
    assert any(of.sample("train", i).tokens.tolist() != other.sample("train", i).tokens.tolist() for i in range(60))


# ---------------------------------------------------------------------- state


@pytest.mark.parametrize("n_objects", [2, 3, 4])
def test_the_state_is_where_the_objects_are_after_all_permutations(n_objects: int) -> None:
    of = task("state_tracking", n_objects=n_objects, length=9)
    permutations = list(itertools.permutations(range(n_objects)))
    for tokens, targets in samples(of):
        objects = list(range(n_objects))
        for position, token in enumerate(tokens):
            objects = [objects[place] for place in permutations[token - 1]]
            state = 1 + permutations.index(tuple(objects))
            assert targets[position] == (IGNORED if position == 0 else state)


def test_two_objects_are_parity() -> None:
    for tokens, targets in samples(task("state_tracking", length=20)):
        swaps = 0
        for position, token in enumerate(tokens):
            swaps += token == 2
            assert position == 0 or targets[position] == 1 + swaps % 2


def test_the_accuracy_at_the_end_counts_the_last_position() -> None:
    of = task("state_tracking", length=5)
    sample = of.sample("val", 0)
    predictions = sample.targets.copy()
    assert of.hits(sample, predictions) == {"accuracy": (4, 4), "accuracy_at_end": (1, 1)}
    predictions[-1] = 0
    assert of.hits(sample, predictions) == {"accuracy": (3, 4), "accuracy_at_end": (0, 1)}
