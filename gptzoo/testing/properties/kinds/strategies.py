"""Properties of decoding strategies: a sample depends on its prompt, number and spec, and ends where it should."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hypothesis import strategies as st

from gptzoo.errors import InputError
from gptzoo.sampling.spec import SamplingSpec
from gptzoo.sampling.strategy import Strategy
from gptzoo.sampling.text_stream import Sample
from gptzoo.testing.at_size.draws import for_all, sizes, smaller_numbers
from gptzoo.testing.strategy_under_test import CHARACTERS, StrategyUnderTest
from gptzoo.testing.verdict import Failed

_N_NEW = 36
_PROMPTS = tuple(
    (CHARACTERS * 6)[start : start + length] for start, length in enumerate((1, 5, 2, 40, 17, 33, 9, 65, 3))
)
_TOLERANCE = 1e-4  # of log-probabilities
_N_DRAWS = 2


def check_samples(subject: StrategyUnderTest) -> None:
    """Check that sample k of a prompt is the same however many there are, differs from others, and can be streamed."""
    for options in subject.other_options():
        strategy = subject.create(SamplingSpec(max_new_tokens=_N_NEW), options)
        most = next(n for n in (17, 9, 8, 4, 3, 2, 1) if _supports(strategy, n))
        all_samples = strategy.samples(_PROMPTS[1], most)
        for n in (1, 2, 8, 9, 16):
            if n < len(all_samples):
                _require_equal(strategy.samples(_PROMPTS[1], n), all_samples[:n], f"{n} samples and {most} samples")
        texts = [sample.text for sample in all_samples]
        if len(set(texts)) > 1:
            for first, second in itertools.combinations(range(len(texts)), 2):
                if texts[first] == texts[second]:
                    raise Failed(f"samples {first} and {second} of {most} are the same text of {_N_NEW} tokens")
        if (streamed := "".join(strategy.stream(_PROMPTS[1]))) != texts[0]:
            raise Failed(f"the first sample is {texts[0]!r}, and streamed {streamed!r}")


def check_rows(subject: StrategyUnderTest) -> None:
    """Check that the samples of a prompt are the same alone and together with other prompts, in any number of slots."""

    def require_independent(prompts: Sequence[str], n: int, n_slots: int) -> None:
        strategy = subject.create(SamplingSpec(max_new_tokens=12))
        n = n if _supports(strategy, n) else 1
        found = dict(strategy.samples_of_prompts(prompts, n, n_slots=n_slots))
        if sorted(found) != [*range(len(prompts))]:
            raise Failed(f"for {len(prompts)} prompts it returns samples of the prompts {sorted(found)}")
        for index, prompt in enumerate(prompts):
            what = f"a prompt of {len(prompt)} tokens alone, and as number {index} of {len(prompts)} in {n_slots} slots"
            _require_equal(found[index], strategy.samples(prompt, n), what)

    prompts = st.lists(st.text(CHARACTERS, min_size=1, max_size=50), min_size=1, max_size=17)
    drawn = st.tuples(prompts, st.integers(1, 3), sizes(1, 9))
    examples = ((_PROMPTS[:2], 1, 1), (_PROMPTS, 1, 3), ((*_PROMPTS, *_PROMPTS[:3]), 1, 8), (_PROMPTS[:3], 2, 4))
    for_all(drawn, lambda case: require_independent(*case), effort=subject.effort, n_draws=_N_DRAWS, examples=examples)


def check_determinism(subject: StrategyUnderTest) -> None:
    """Check that the same prompt and seed give the same samples, after other texts and with a new strategy too."""
    for options in subject.other_options():
        spec = SamplingSpec(max_new_tokens=8)
        strategy = subject.create(spec, options)
        first = [strategy.samples(prompt) for prompt in _PROMPTS[:2]]
        for prompt in (*_PROMPTS, *_PROMPTS[-1:0:-1]):
            strategy.samples(prompt)
        again = [strategy.samples(prompt) for prompt in _PROMPTS[:2]]
        fresh = subject.create(spec, options)
        for index, prompt in enumerate(_PROMPTS[:2]):
            _require_equal(again[index], first[index], "a prompt, and the same prompt after 17 others")
            _require_equal(fresh.samples(prompt), first[index], "a strategy that has generated texts and a new one")


def check_length(subject: StrategyUnderTest) -> None:
    """Check that a text which nothing stops has `max_new_tokens` tokens, or as many as fit after the prompt."""

    def require_length(n_new: int) -> None:
        strategy = subject.create(SamplingSpec(max_new_tokens=n_new))
        (sample,) = strategy.samples(_PROMPTS[1])
        if len(sample.tokens) != n_new or sample.finish_reason != "length":
            raise Failed(
                f"with max_new_tokens {n_new} it ends after {len(sample.tokens)} tokens with {sample.finish_reason!r}"
            )

    for_all(
        sizes(0, 70),
        require_length,
        effort=subject.effort,
        n_draws=_N_DRAWS,
        examples=(0, 1, 2, 7, 8, 17, 33, 65),
        simpler=smaller_numbers,
    )
    for length in (1, 17, 40, 47):
        strategy = subject.create(SamplingSpec(max_new_tokens=100), fit_length=True)
        (sample,) = strategy.samples("a" * length)
        if len(sample.tokens) != 48 - length:
            raise Failed(
                f"with fit_length it generates {len(sample.tokens)} tokens after a prompt of {length} tokens, where a "
                f"model with 48 positions has {48 - length} left"
            )


def check_stopping(subject: StrategyUnderTest) -> None:
    """Check that no text has a stop text or a stop token in it, however long the stop text is."""
    free = subject.create(SamplingSpec(max_new_tokens=_N_NEW)).samples(_PROMPTS[1])[0]
    for start, length in ((0, 1), (3, 2), (5, 4), (6, 5), (4, 9), (9, 13), (2, 20)):
        stop = free.text[start : start + length]
        (sample,) = subject.create(SamplingSpec(max_new_tokens=_N_NEW, stop_texts=(stop,))).samples(_PROMPTS[1])
        if stop in sample.text:
            raise Failed(f"a text has the stop text {stop!r} of {len(stop)} characters in it")
        if sample.text == free.text or sample.finish_reason not in ("stop_text", "length"):
            raise Failed(f"the stop text {stop!r} does not change a text that has it, or ends it otherwise")
    for place in (0, 3, 20):
        token = free.tokens[place]
        (sample,) = subject.create(SamplingSpec(max_new_tokens=_N_NEW, stop_tokens=(token,))).samples(_PROMPTS[1])
        if token in sample.tokens:
            raise Failed(f"a text has the stop token {token} in it")


def _supports(strategy: Strategy, n: int) -> bool:
    try:
        strategy.check_n_samples(n)
    except InputError:
        return False
    return True


def _require_equal(samples: Sequence[Sample], expected: Sequence[Sample], what: str) -> None:
    """Require the same texts, tokens and reasons, and log-probabilities that differ by rounding only."""
    if len(samples) != len(expected):
        raise Failed(f"{what}: {len(samples)} and {len(expected)} samples")
    for number, (sample, other) in enumerate(zip(samples, expected, strict=True)):
        if (sample.tokens, sample.text, sample.finish_reason) != (other.tokens, other.text, other.finish_reason):
            raise Failed(f"{what} have different texts as sample {number}: {sample.text!r} and {other.text!r}")
        for first, second in zip(sample.log_probabilities, other.log_probabilities, strict=True):
            if not math.isclose(first, second, rel_tol=_TOLERANCE, abs_tol=_TOLERANCE):
                raise Failed(f"{what} have different log-probabilities in sample {number}: {first:g} and {second:g}")
