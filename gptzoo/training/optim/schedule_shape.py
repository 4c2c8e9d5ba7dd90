"""The shape of a learning-rate schedule over a run, and warnings about runs that are too short for their schedule.

Everything is computed from the factors of the schedule, never from its name or its options, so it holds for schedules
of plugins too. A schedule that depends on absolute numbers of steps has another shape in a long run. The shape in a
long run is the one that its author meant, so a warning compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from gptzoo.training.optim.learning_rate_schedules import Schedule

_MAX_STEPS_SAMPLED = 2000  # of a long run; the first and last steps are always among them
_N_STEPS_AT_ENDS = 200
_LONG_RUN = 16  # length of the long run, in multiples of all absolute numbers of steps
_MIN_LONG_RUN = 2000  # steps
_RELATIVE_TOLERANCE = 1e-3
_MIN_RISE_SHARE = 0.5  # a run that rises for less than this share is not reported
_DESIGNED_RISE_SHARE = 0.9  # a schedule that rises for this share of a long run does so by design, in any run
_MIN_PEAK = 0.5  # of the peak of a long run, which such a schedule has to reach
_MIN_DECAY_SHARE = 0.25  # of the decay in a long run; a run with less is reported
_MIN_SHARE_DIFFERENCE = 0.01  # between two runs, beyond the rounding of steps
_MIN_FACTOR_DIFFERENCE = 0.1  # between two runs at the same fraction of each


@dataclass(frozen=True)
class ScheduleShape:
    """The shape of a schedule over a run of `n_steps`."""

    n_steps: int
    peak: float  # highest factor
    peak_step: int  # steps before the factor is first at its highest
    low: float  # lowest factor from there on

    @property
    def rise_share(self) -> float:
        """The fraction of the run before the peak."""
        return self.peak_step / self.n_steps

    @property
    def decay(self) -> float:
        """The fall of the factor after its peak."""
        return self.peak - self.low


def schedule_shape(config: Schedule.Config, n_steps: int) -> ScheduleShape:
    """Return the shape of a schedule over a run, from all of its factors, or from a sample of them in a long run."""
    schedule = config.build(n_steps)
    factors = {step: float(schedule.lr_factor(step)) for step in _sampled_steps(n_steps)}
    steps, highest = list(factors), _first_highest(factors)
    index = steps.index(highest)
    nearby = range(steps[max(0, index - 1)], steps[min(index + 1, len(steps) - 1)])  # the peak may be between samples
    factors |= {step: float(schedule.lr_factor(step)) for step in nearby}
    peak_step = _first_highest(dict(sorted(factors.items())))
    low = min(factor for step, factor in factors.items() if step >= peak_step)
    return ScheduleShape(n_steps, factors[peak_step], peak_step, low)


def _first_highest(factors: Mapping[int, float]) -> int:
    peak = max(factors.values())
    return next(step for step, factor in factors.items() if factor >= peak - abs(peak) * 1e-9)


def schedule_warnings(config: Schedule.Config, n_steps: int) -> list[str]:
    """Return what a schedule cannot do in a run of this length: reach its peak, or decay as it does in a long run."""
    shape = schedule_shape(config, n_steps)
    try:
        long = _long_shape(config, n_steps)
    except Exception:  # a plugin's schedule may refuse another length, and the run does not need that one
        return []
    return list(_warnings(config, shape, long))


def unequal_shares(config: Schedule.Config, n_steps: Mapping[str, int]) -> str:
    """Return a warning if warmup or decay is another share of some runs than of others, or "".

    `n_steps` are the lengths of the runs by name.
    """
    shape_of = cache(lambda n: schedule_shape(config, n))
    shapes = {name: shape_of(n) for name, n in n_steps.items()}
    peak = max(shape.peak for shape in shapes.values())
    # A run that does not reach the peak rises to its end.
    rises = {name: s.peak_step if s.peak >= peak * (1 - 1e-9) else s.n_steps for name, s in shapes.items()}
    shares = {name: rise / n_steps[name] for name, rise in rises.items()}
    low, high = min(shares, key=shares.__getitem__), max(shares, key=shares.__getitem__)
    rounding = 0.5 / n_steps[low] + 0.5 / n_steps[high]
    if shares[high] - shares[low] > _MIN_SHARE_DIFFERENCE + rounding:
        parts = [f"{rises[name]:,} of {_steps(n_steps[name])} ({shares[name]:.0%}) of {name}" for name in (low, high)]
        return (
            f"warmup is another share of each run: {parts[0]}, and {parts[1]}. So the variants differ in their "
            "schedules too. Set schedule.warmup_fraction instead of an absolute number of steps"
        )
    short, long = min(n_steps, key=n_steps.__getitem__), max(n_steps, key=n_steps.__getitem__)
    share = 1 - 1 / n_steps[short]  # the last step of the shorter run
    factors = {name: _factor_at(config, n_steps[name], share) for name in (short, long)}
    if abs(factors[short] - factors[long]) > _MIN_FACTOR_DIFFERENCE * shapes[long].peak:
        return (
            f"the learning rate decays differently in runs of different lengths: at {share:.0%} of the run it is at "
            f"{factors[short]:.2g} of its peak in {short} ({_steps(n_steps[short])}), and at {factors[long]:.2g} in "
            f"{long} ({_steps(n_steps[long])}). So the variants differ in their schedules too. Use a schedule whose "
            "decay is a fraction of the run"
        )
    return ""


def _factor_at(config: Schedule.Config, n_steps: int, share: float) -> float:
    return float(config.build(n_steps).lr_factor(min(n_steps - 1, round(share * n_steps))))


def _warnings(config: Schedule.Config, shape: ScheduleShape, long: ScheduleShape) -> Iterator[str]:
    n_steps, reached = shape.n_steps, shape.peak / long.peak if long.peak > 0 else 1.0
    advice = "Use a longer run or a shorter warmup, or set schedule.warmup_fraction"
    rises_by_design = long.rise_share > _DESIGNED_RISE_SHARE
    rises_to_the_end = shape.peak_step == n_steps - 1 and n_steps > 1 and not rises_by_design
    expected = _MIN_PEAK if rises_by_design else 1 - 1e-9 if rises_to_the_end else 1 - _RELATIVE_TOLERANCE
    if reached < expected:
        yield (
            f"schedule {config.type}: the learning rate never reaches its peak in {_steps(n_steps)}: it gets to "
            f"{reached:.3g} of the peak. {advice}"
        )
        return
    if rises_to_the_end:
        never_decays = " and never decays" if long.decay > 0 else ""
        yield (
            f"schedule {config.type}: the learning rate rises until the last of {_steps(n_steps)}{never_decays}. "
            f"{advice}"
        )
        return
    if shape.rise_share > max(_MIN_RISE_SHARE, long.rise_share + 0.1):
        yield (
            f"schedule {config.type}: the learning rate rises for {shape.peak_step:,} of {_steps(n_steps)} "
            f"({shape.rise_share:.0%}). {advice}"
        )
    if n_steps > 1 and long.decay > 0.01 * long.peak and shape.decay < _MIN_DECAY_SHARE * long.decay:
        low, long_low = shape.low / long.peak, long.low / long.peak
        falls = f"falls to {low:.2g} of the peak" if low < 0.995 else "stays at the peak"
        yield (
            f"schedule {config.type}: the learning rate has no time to decay in {_steps(n_steps)}: it {falls}, and "
            f"in a long run it falls to {long_low:.2g} of it. Use a longer run, or a decay over more of the run"
        )


def _long_shape(config: Schedule.Config, n_steps: int) -> ScheduleShape:
    """Return the shape in a run that is long compared with every absolute number of steps in the options."""
    numbers = [value for value in config.model_dump().values() if isinstance(value, int) and value > 0]
    return schedule_shape(config, max(_MIN_LONG_RUN, _LONG_RUN * (n_steps + sum(numbers))))


def _sampled_steps(n_steps: int) -> Sequence[int]:
    if n_steps <= _MAX_STEPS_SAMPLED:
        return range(n_steps)
    ends = {*range(_N_STEPS_AT_ENDS), *range(n_steps - _N_STEPS_AT_ENDS, n_steps)}
    evenly = {round(i * (n_steps - 1) / (_MAX_STEPS_SAMPLED - 1)) for i in range(_MAX_STEPS_SAMPLED)}
    return sorted(ends | evenly)


def _steps(n_steps: int) -> str:
    return "1 step" if n_steps == 1 else f"{n_steps:,} steps"
