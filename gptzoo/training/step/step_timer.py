"""The duration of training steps, on the CPU and on a GPU that is still busy when the host goes on."""

from __future__ import annotations

import time

import torch

from gptzoo.training.hardware.device import synchronize


class StepTimer:
    """A clock for training steps.

    On a GPU, the optimizer step runs while the host prepares the next batch. So the clock is read when the numbers of a
    gradient arrive, for which the host waits anyway. From one arrival to the next, the GPU does the work of one step:
    an optimizer step, a forward and a backward pass. Trackers and hooks run in this time, too, and lengthen it if they
    take longer than the GPU. After a pause there is no earlier arrival to count from, and the host waits for the end of
    the step.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._started = 0.0
        self._arrived: float | None = None
        self._arrived_before: float | None = None

    def start(self) -> None:
        """Begin a step."""
        self._started = time.perf_counter()

    def gradient_arrived(self) -> None:
        """Record that the host has the numbers of the step's gradient."""
        self._arrived_before, self._arrived = self._arrived, time.perf_counter()

    def stop(self) -> float:
        """End a step and return its seconds."""
        if self.device.type == "cuda" and self._arrived is not None and self._arrived_before is not None:
            return self._arrived - self._arrived_before
        synchronize(self.device)
        return time.perf_counter() - self._started

    def pause(self) -> None:
        """Leave out the time until the next step, such as that of an evaluation or of `watch`."""
        self._arrived = None
