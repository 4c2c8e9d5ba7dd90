"""The scale of the loss in fp16, whose smallest gradients would else be zero."""

from __future__ import annotations

_SMALLEST = 1.0
_LARGEST = 2.0**24


class LossScale:
    """Halved when a gradient overflows, doubled after `growth_interval` steps without: dynamic loss scaling.

    Micikevicius et al. 2018, Mixed Precision Training, arXiv:1710.03740. It is told whether the norm of all gradients
    was finite, a number that processes that train together have in common, so their scales never part; torch's
    GradScaler decides on what each process sees of the gradients.
    """

    def __init__(self, enabled: bool, *, growth_interval: int = 2000):
        self.value = 2.0**16 if enabled else 1.0
        self.steps_since_change = 0
        self.enabled = enabled
        self.growth_interval = growth_interval

    def update(self, finite: bool) -> bool:
        """Learn from a step; returns whether an overflow is one that a smaller scale may mend."""
        if not self.enabled:
            return False
        mendable = not finite and self.value > _SMALLEST
        self.steps_since_change += 1
        if mendable:
            self.value, self.steps_since_change = max(_SMALLEST, self.value / 2), 0
        elif finite and self.steps_since_change >= self.growth_interval:
            self.value, self.steps_since_change = min(_LARGEST, self.value * 2), 0
        return mendable

    def state(self) -> dict[str, float]:
        """What is to be saved."""
        return {"value": self.value, "steps_since_change": self.steps_since_change} if self.enabled else {}

    def restore(self, state: dict[str, float]) -> None:
        """Go on as when `state` was saved."""
        if self.enabled and state:
            self.value, self.steps_since_change = float(state["value"]), int(state["steps_since_change"])
