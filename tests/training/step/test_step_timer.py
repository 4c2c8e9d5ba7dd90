"""The duration of steps on a simulated GPU, which works on a queue while the host goes on."""

from __future__ import annotations

import pytest
import torch

from gptzoo.training.step import step_timer
from gptzoo.training.step.step_timer import StepTimer

FORWARD_BACKWARD, OPTIMIZER, LAUNCH = 5.0, 2.0, 0.1  # seconds


class Gpu:
    """A GPU whose queue takes `busy_until`, and the clock of the host."""

    now = 100.0
    busy_until = 100.0

    def launch(self, seconds: float) -> None:
        self.now += LAUNCH
        self.busy_until = max(self.busy_until, self.now) + seconds

    def wait(self, device: torch.device | None = None) -> None:
        self.now = max(self.now, self.busy_until)

    def train(self, timer: StepTimer) -> float:
        timer.start()
        self.launch(FORWARD_BACKWARD)
        self.wait()
        timer.gradient_arrived()
        self.launch(OPTIMIZER)
        return timer.stop()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Gpu:
    gpu = Gpu()
    monkeypatch.setattr(step_timer.time, "perf_counter", lambda: gpu.now)
    monkeypatch.setattr(torch.cuda, "synchronize", gpu.wait)
    return gpu


def test_the_seconds_of_a_step_on_a_gpu_include_the_optimizer(gpu: Gpu) -> None:
    timer = StepTimer(torch.device("cuda"))
    started = gpu.now
    seconds = [gpu.train(timer) for _ in range(10)]
    assert seconds == pytest.approx([7.0] * 10, abs=2 * LAUNCH)
    gpu.wait()
    assert sum(seconds) == pytest.approx(gpu.now - started, abs=OPTIMIZER + LAUNCH)


def test_a_pause_counts_in_no_step(gpu: Gpu) -> None:
    timer = StepTimer(torch.device("cuda"))
    gpu.train(timer)
    timer.pause()
    gpu.wait()
    gpu.now += 1000
    assert [gpu.train(timer) for _ in range(2)] == pytest.approx([7.0] * 2, abs=3 * LAUNCH)


def test_a_step_on_a_cpu_lasts_from_its_start_to_its_end(gpu: Gpu) -> None:
    timer = StepTimer(torch.device("cpu"))
    timer.start()
    gpu.now += 3
    timer.gradient_arrived()
    gpu.now += 2
    assert timer.stop() == pytest.approx(5)
