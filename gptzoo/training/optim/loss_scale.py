"""Dynamic loss scaling for fp16, in which small gradients would underflow to zero."""

from __future__ import annotations

_MIN_SCALE = 1.0
_MAX_SCALE = 2.0**24


class LossScale:
    """A factor on the loss that halves when a gradient overflows and doubles after `growth_interval` steps without.

    Micikevicius et al. 2018, Mixed Precision Training, arXiv:1710.03740. It depends only on whether the global
    gradient norm is finite, which is the same on all ranks, so the ranks' scales stay equal. torch's GradScaler
    decides by the gradients that a rank holds.
    """

    def __init__(self, enabled: bool, *, growth_interval: int = 2000):
        self.value = 2.0**16 if enabled else 1.0
        self.steps_since_change = 0
        self.enabled = enabled
        self.growth_interval = growth_interval

    def update(self, gradient_is_finite: bool) -> bool:
        """Adjust the scale after a step; return True if it was lowered because of an overflow."""
        if not self.enabled:
            return False
        lower = not gradient_is_finite and self.value > _MIN_SCALE
        self.steps_since_change += 1
        if lower:
            self.value, self.steps_since_change = max(_MIN_SCALE, self.value / 2), 0
        elif gradient_is_finite and self.steps_since_change >= self.growth_interval:
            self.value, self.steps_since_change = min(_MAX_SCALE, self.value * 2), 0
        return lower

    def state_dict(self) -> dict[str, float]:
        """Return the state for a checkpoint; empty if loss scaling is off."""
        return {"value": self.value, "steps_since_change": self.steps_since_change} if self.enabled else {}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Restore the state from a checkpoint."""
        if self.enabled and state:
            self.value, self.steps_since_change = float(state["value"]), int(state["steps_since_change"])
