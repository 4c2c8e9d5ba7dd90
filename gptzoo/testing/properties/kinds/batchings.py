"""Properties of batchings: what a sample is, which tokens an epoch has, and what the model receives."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from hypothesis import strategies as st

from gptzoo.component import Config
from gptzoo.data.batching.batching import Batch, Batching
from gptzoo.errors import DataError
from gptzoo.testing.at_size.draws import for_all, simpler_sequences, sizes, smaller_numbers
from gptzoo.testing.at_size.option_draws import describe_options, other_configs
from gptzoo.testing.at_size.token_stores import NumberTokenizer, Places, Text, texts
from gptzoo.testing.component_under_test import ComponentUnderTest
from gptzoo.testing.properties.kinds import sample_batchings
from gptzoo.testing.properties.kinds.sample_batchings import reads_samples
from gptzoo.testing.verdict import Failed
from gptzoo.utils.targets import IGNORED_TARGET

Check = Callable[[ComponentUnderTest], None]

_N_DRAWS = 12
_MAX_SAMPLES = 400  # of an epoch


@dataclass(frozen=True)
class Setting:
    """A text, a context length and a seed."""

    text: Text
    length: int = 16
    seed: int = 1
    count: int = 5  # samples in a batch

    def __str__(self) -> str:
        return f"with a context of {self.length} over {self.text}"

    def simpler(self) -> Iterator[Setting]:
        """Yield settings with fewer or shorter documents, a shorter context and smaller batches."""
        for split, lengths in self.text.lengths().items():
            shorter = [tuple(some) for some in simpler_sequences(lengths)]
            for index, length in enumerate(lengths):
                least = 3 if self.text.has_tabs else 1
                shorter += [(*lengths[:index], n, *lengths[index + 1 :]) for n in smaller_numbers(length, least)]
            for some in shorter:
                if sum(some) > 1:
                    yield replace(self, text=self.text.with_documents(split, some))
        yield from (replace(self, count=count) for count in smaller_numbers(self.count, 1))
        yield from (replace(self, length=length) for length in smaller_numbers(self.length, 2))


_MANY = tuple(1 + index * 7 % 23 for index in range(90))
_LONG = (300, 1, 64, 129, 2, 65, 31, 257, 33, 1, 1, 128)
_PAIRS = tuple(3 + index % 6 for index in range(50))
_EXAMPLES = (
    Setting(Text((40, 30), (20, 20)), 8),
    Setting(Text(_MANY, _MANY), 16, count=9),
    Setting(Text(_LONG, _LONG), 64, seed=2, count=17),
    Setting(Text(_LONG * 3, _LONG), 100, seed=3, count=10),
    Setting(Text(_MANY * 3, _LONG), 129, seed=4, count=8),
    Setting(Text(_PAIRS, _PAIRS, has_tabs=True), 16, seed=5, count=17),
    Setting(Text((2000,), (700,)), 33, seed=6, count=12),
    Setting(Text((450,), (200,)), 4, seed=7, count=9),
    *(Setting(Text((8 * n_windows + 8,), (50,)), 8, count=9) for n_windows in (7, 14, 16, 31, 49)),
)


def _or_of_samples(check_of_samples: Check) -> Callable[[Check], Check]:
    """Return a decorator of a check for batchings of text. A batching of samples gets `check_of_samples` instead."""

    def decorate(check_of_text: Check) -> Check:
        @functools.wraps(check_of_text)
        def check(subject: ComponentUnderTest) -> None:
            (check_of_samples if reads_samples(subject) else check_of_text)(subject)

        return check

    return decorate


@_or_of_samples(sample_batchings.check_samples)
def check_samples(subject: ComponentUnderTest) -> None:
    """Check that a training sample depends only on its number and the seed, whatever was read before."""

    def require_function_of_number(config: Config, setting: Setting) -> None:
        batching, fresh = _build(config, setting), _build(config, setting)
        n_samples, count = batching.n_samples, setting.count
        starts = [0, max(0, n_samples - count // 2), n_samples, 3 * n_samples + 2, 1]
        batches = {first: batching.train_batch(first, count) for first in starts}
        for first in reversed(starts):  # as in a run that was resumed
            _require_form(config, batches[first], count)
            for row in sorted({0, count // 2, min(8, count - 1), count - 1}):
                alone = fresh.train_batch(first + row, 1)
                if (name := _different_input(batches[first], row, alone, 0)) is not None:
                    raise Failed(
                        f"sample {first + row} alone and in a batch of {count} has other {name}, {setting}"
                        f"{describe_options(config)}"
                    )
            again = fresh.train_batch(first, count)
            if any((name := _different_input(batches[first], row, again, row)) for row in range(count)):
                raise Failed(f"sample {first} and those after it, read again, have other {name}, {setting}")

    _for_all_settings(subject, require_function_of_number)


@_or_of_samples(sample_batchings.check_targets)
def check_targets(subject: ComponentUnderTest) -> None:
    """Check that each target that counts is the token that follows its input in the text."""

    def require_shifted_inputs(config: Config, setting: Setting) -> None:
        batching = _build(config, setting)
        for split, batch in _some_batches(batching, setting):
            places = Places(getattr(batching.store, split), batching.store.spans[split])
            for row, column in np.argwhere(batch["targets"] != IGNORED_TARGET).tolist():
                token, target = int(batch["tokens"][row, column]), int(batch["targets"][row, column])
                if not places.follows(target, token):
                    raise Failed(
                        f"in a {split} batch {setting}, the target in row {row}, column {column} does not follow its "
                        f"input in the text{describe_options(config)}"
                    )

    _for_all_settings(subject, require_shifted_inputs, without_noise=True)


@_or_of_samples(sample_batchings.check_epoch)
def check_epoch(subject: ComponentUnderTest) -> None:
    """Check that an epoch has every token as a target at most once, and nearly all of them; or all documents."""

    def require_whole_epoch(config: Config, setting: Setting) -> None:
        batching = _build(config, setting)
        n_samples = batching.n_samples
        if n_samples > _MAX_SAMPLES:
            return
        places = Places(batching.store.train, batching.store.spans["train"])
        for epoch in (0, 1, 3):
            targets: Counter[int] = Counter()
            for first in range(epoch * n_samples, (epoch + 1) * n_samples, setting.count):
                count = min(setting.count, (epoch + 1) * n_samples - first)
                targets.update(places.known(batching.train_batch(first, count)["targets"].flatten().tolist()))
            if twice := [place for place, n in targets.items() if n > 1]:
                raise Failed(
                    f"epoch {epoch} of {n_samples} samples in batches of {setting.count} has {len(twice)} tokens more "
                    f"than once, {setting}"
                )
            _require_coverage(batching, setting, places, set(targets), f"epoch {epoch} of {n_samples} samples")
        across = batching.train_batch(max(0, n_samples - 2), setting.count)  # a batch over the end of an epoch
        parts = [batching.train_batch(max(0, n_samples - 2) + row, 1) for row in range(setting.count)]
        for row, part in enumerate(parts):
            if _different_input(across, row, part, 0):
                raise Failed(f"a batch of {setting.count} samples over the end of an epoch differs, {setting}")

    _for_all_settings(subject, require_whole_epoch, without_noise=True)


@_or_of_samples(sample_batchings.check_validation)
def check_validation(subject: ComponentUnderTest) -> None:
    """Check that validation has each held-out token as a target once, in batches of any size, the same every time."""

    def require_each_token_once(config: Config, setting: Setting) -> None:
        batching = _build(config, setting)
        places = Places(batching.store.val, batching.store.spans["val"])
        for n_rows in (1, 2, 9, 17, 1000):
            max_tokens = n_rows * setting.length
            batches = list(batching.validation_batches(max_tokens))
            targets: Counter[int] = Counter()
            for batch in batches:
                _require_form(config, batch, len(batch["tokens"]))
                if batch["tokens"].size > max_tokens and len(batch["tokens"]) > 1:
                    raise Failed(f"a validation batch has {batch['tokens'].size} tokens; expected up to {max_tokens}")
                targets.update(places.known(batch["targets"].flatten().tolist()))
            what = f"validation in batches of up to {max_tokens} tokens"
            if twice := [place for place, n in targets.items() if n > 1]:
                raise Failed(f"{what} has {len(twice)} tokens more than once, {setting}")
            if not batching.whole_documents and (missing := len(places.place) - len(targets)) > 1:
                raise Failed(f"{what} leaves out {missing} tokens; expected all but the first, {setting}")
            _require_coverage(batching, setting, places, set(targets), what)
            again = list(batching.validation_batches(max_tokens))
            if len(again) != len(batches) or any(
                _different_input(a, row, b, row)
                for a, b in zip(batches, again, strict=True)
                for row in range(len(a["tokens"]))
            ):
                raise Failed(f"{what} is different the second time, {setting}")

    _for_all_settings(subject, require_each_token_once)


@_or_of_samples(sample_batchings.check_inputs)
def check_inputs(subject: ComponentUnderTest) -> None:
    """Check that `documents` are equal inside a document only, and `positions` count from 0 in a document or row."""

    def require_consistent_inputs(config: Config, setting: Setting) -> None:
        batching = _build(config, setting)
        for split, batch in _some_batches(batching, setting):
            places = Places(getattr(batching.store, split), batching.store.spans[split])
            for row in range(len(batch["tokens"])):
                _require_documents(config, setting, batch, row, places)
                _require_positions(config, setting, batch, row)

    _for_all_settings(subject, require_consistent_inputs, without_noise=True)


def _require_documents(config: Config, setting: Setting, batch: Batch, row: int, places: Places) -> None:
    if "documents" not in batch:
        return
    document_of_id: dict[int, int] = {}
    for column, token in enumerate(batch["tokens"][row].tolist()):
        place = places.place.get(token)
        if place is None or batch["targets"][row, column] == IGNORED_TARGET:
            continue
        document, identifier = int(places.document[place]), int(batch["documents"][row, column])
        if document_of_id.setdefault(identifier, document) != document:
            raise Failed(
                f"two documents in row {row} have the same id {identifier} in `documents`, {setting}"
                f"{describe_options(config)}"
            )


def _require_positions(config: Config, setting: Setting, batch: Batch, row: int) -> None:
    if "positions" not in batch:
        return
    positions, targets = batch["positions"][row].tolist(), batch["targets"][row].tolist()
    documents = batch["documents"][row].tolist() if "documents" in batch else [0] * len(positions)
    for column, position in enumerate(positions):
        if targets[column] == IGNORED_TARGET:
            continue
        starts = column == 0 or documents[column - 1] != documents[column]
        if position != (0 if starts else positions[column - 1] + 1):
            raise Failed(
                f"in row {row}, column {column} has the position {position}; expected 0 at the start of a document and "
                f"one more for each token, {setting}{describe_options(config)}"
            )


def _require_coverage(batching: Batching, setting: Setting, places: Places, targets: set[int], what: str) -> None:
    """Require targets of nearly all tokens, or of every document for a batching of whole documents."""
    if batching.whole_documents:
        documents = {int(places.document[place]) for place in targets}
        if missing := set(places.document[places.document >= 0].tolist()) - documents:
            raise Failed(f"{what} leaves out document {min(missing)}, {setting}")
    elif (missing_tokens := len(places.place) - len(targets)) > 2 * setting.length:
        raise Failed(f"{what} leaves out {missing_tokens} of {len(places.place)} tokens, {setting}")


def _require_form(config: Config, batch: Batch, n_rows: int) -> None:
    assert issubclass(config.component, Batching)
    expected = {"tokens", "targets", *config.component.enabled_inputs(config)}
    if batch.keys() != expected:
        raise Failed(f"a batch has {', '.join(sorted(batch))}; expected {', '.join(sorted(expected))}")
    for name, array in batch.items():
        if array.dtype != np.int64 or array.ndim != 2 or len(array) != n_rows:
            raise Failed(f"{name} is {array.dtype} of shape {array.shape}; expected int64 with {n_rows} rows")
    if batch["tokens"].shape != batch["targets"].shape:
        raise Failed(f"tokens have the shape {batch['tokens'].shape} and targets {batch['targets'].shape}")


def _different_input(batch: Batch, row: int, other: Batch, other_row: int) -> str | None:
    """Return the name of an array in which two rows differ, or None. One may have more padding at its end."""
    for name, array in batch.items():
        first, second = sorted((array[row], other[name][other_row]), key=len)
        padding = second[len(first) :]
        if not np.array_equal(first, second[: len(first)]) or (len(padding) and (padding != padding[-1]).any()):
            return name
    return None


def _some_batches(batching: Batching, setting: Setting) -> list[tuple[str, Batch]]:
    n_samples = batching.n_samples
    firsts = sorted({0, n_samples // 2, max(0, n_samples - 2), 2 * n_samples + 1})
    batches = [("train", batching.train_batch(first, setting.count)) for first in firsts]
    return batches + [("val", batch) for batch in batching.validation_batches(9 * setting.length)]


def _build(config: Config, setting: Setting) -> Batching:
    store = setting.text.store()
    batching: Batching = config.build(store, NumberTokenizer(store.vocab_size), setting.length, setting.seed)
    return batching


def _for_all_settings(
    subject: ComponentUnderTest, check: Callable[[Config, Setting], None], *, without_noise: bool = False
) -> None:
    """Check each setting whose text the batching accepts, with the config under test and with two other configs.

    Without noise, inputs are as in the text.
    """
    configs = [c for c in other_configs(subject) if not (without_noise and _noise_of(c))]
    others = configs[1:]
    n_accepted = 0

    def check_setting(setting: Setting) -> None:
        nonlocal n_accepted
        first = setting.length + setting.count + setting.seed
        for config in (configs[0], *(others[(first + index) % len(others)] for index in range(min(2, len(others))))):
            try:
                accepted = _build(config, setting).n_samples > 0
            except DataError:
                accepted = False  # it needs a longer text, or one of another form
            if not accepted:
                continue
            n_accepted += 1
            check(config, setting)

    settings = st.builds(Setting, texts(), sizes(2, 129), st.integers(0, 5), st.integers(1, 17))
    for_all(
        settings, check_setting, effort=subject.effort, n_draws=_N_DRAWS, examples=_EXAMPLES, simpler=Setting.simpler
    )
    if not n_accepted:
        raise Failed("it refuses every text of the kit: documents of 1 to 2,000 tokens, and pairs with a tab between")


def _noise_of(config: Config) -> float:
    """Return the largest option with a name such as `token_dropout`."""
    names = [
        n for n in type(config).model_fields if any(word in n for word in ("drop", "noise", "jitter", "mask_prob"))
    ]
    return max((float(getattr(config, name) or 0) for name in names), default=0.0)
