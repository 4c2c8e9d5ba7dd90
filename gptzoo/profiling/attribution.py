"""The attribution of a profile's time to components: each nanosecond of the profiled steps belongs to one row.

A forward operation belongs to the innermost scope around it. A backward operation belongs to the component whose
forward operation created its autograd node: torch gives both the same sequence number. An operation that is computed
again in the backward pass (activation checkpointing) runs in a scope there, and counts as backward.

On a CPU the rows have the time of the main thread. On a GPU they have the time of the device: each kernel belongs to
the row of the operation that launched it, and the time without any kernel is the row `idle`. If the profiler cannot
record kernels, the rows have the time of the main thread.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from gptzoo.profiling.events import Event
from gptzoo.profiling.operations import COUNTED
from gptzoo.profiling.scopes import Cost

WINDOW = "gptzoo profiled steps"
"""Name of the scope around the profiled steps."""
OTHER, IDLE, AUTOGRAD = Cost("other", "other"), Cost("idle", "idle"), Cost("autograd", "backward")
TO_DEVICE, TO_HOST = Cost("copy to the device", "data"), Cost("copy to the host", "synchronisation")

_NODE = "autograd::engine::evaluate_function: "
_ACCUMULATE = "AccumulateGrad"
_COPIES = {"Memcpy HtoD": TO_DEVICE, "Memcpy DtoH": TO_HOST}
_WAITS = frozenset({"cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize"})


@dataclass
class Attribution:
    """The rows of a profile."""

    window: int = 0  # nanoseconds of the profiled steps
    nanoseconds: dict[Cost, int] = field(default_factory=lambda: defaultdict(int))  # they add up to `window`
    operations: dict[int, Cost] = field(default_factory=dict)  # rows of counted operations, by index
    of_device: bool = False  # the time is that of a GPU
    waits: int = 0  # calls in which the host waits for the device
    wait_nanoseconds: int = 0


def attribute(events: Iterable[Event], costs: Mapping[str, Cost]) -> Attribution:
    """Attribute the time of the profiled steps; `costs` are the rows of the scopes by name."""
    events = sorted(events, key=lambda event: (event.start, -event.end))
    window = next(event for event in events if event.name == WINDOW and not event.on_device)
    inside = [event for event in events if window.start <= event.start < window.end and event is not window]
    host = [event for event in inside if not event.on_device]
    kernels = [event for event in inside if event.on_device]
    result = Attribution(window.end - window.start)
    creators: dict[tuple[int, int], Cost] = {}
    rows: dict[int, Cost] = {}  # by correlation
    threads = sorted({event.thread for event in host}, key=lambda thread: thread != window.thread)
    for thread in threads:  # the main thread first, because others execute its autograd nodes
        sweep = _Sweep(costs, creators, rows, result)
        sweep.run([event for event in host if event.thread == thread], window)
        if thread == window.thread and not kernels:
            result.nanoseconds = sweep.nanoseconds
    if kernels:
        result.of_device = True
        result.nanoseconds = _device_time(kernels, rows, window)
    return result


@dataclass
class _Frame:
    end: int
    cost: Cost
    in_backward: bool
    covered: int  # the time up to here has been attributed
    last_node: Cost | None = None  # the row of the last child, if it was an autograd node


class _Sweep:
    """A pass over the events of one thread, in the order of their starts."""

    def __init__(
        self,
        costs: Mapping[str, Cost],
        creators: dict[tuple[int, int], Cost],
        rows: dict[int, Cost],
        result: Attribution,
    ):
        self.costs, self.creators, self.rows, self.result = costs, creators, rows, result
        self.nanoseconds: dict[Cost, int] = defaultdict(int)
        self.stack: list[_Frame] = []

    def run(self, events: Sequence[Event], window: Event) -> None:
        """Attribute the time of the window on this thread."""
        self.stack = [_Frame(window.end, OTHER, False, window.start)]
        for event in events:
            while event.start >= self.stack[-1].end and len(self.stack) > 1:
                self._pop()
            self._push(event)
        while self.stack:
            self._pop()

    def _push(self, event: Event) -> None:
        parent = self.stack[-1]
        is_node = event.name.startswith(_NODE) and not parent.in_backward
        cost = self._cost(event, parent, is_node=is_node)
        # Between two autograd nodes, the engine works.
        gap = AUTOGRAD if is_node and parent.last_node is not None else parent.cost
        self._cover(parent, event.start, gap)
        parent.last_node = cost if is_node else None
        end = min(event.end, parent.end)
        start = max(event.start, parent.covered)
        self.stack.append(_Frame(end, cost, parent.in_backward or is_node, start))
        self._record(event, cost)

    def _pop(self) -> None:
        frame = self.stack.pop()
        self._cover(frame, frame.end, frame.cost)
        if self.stack:
            self.stack[-1].covered = max(self.stack[-1].covered, frame.end)

    def _cover(self, frame: _Frame, until: int, cost: Cost) -> None:
        if until > frame.covered:
            self.nanoseconds[cost] += until - frame.covered
            frame.covered = until

    def _cost(self, event: Event, parent: _Frame, *, is_node: bool) -> Cost:
        if is_node and event.name.endswith(_ACCUMULATE):
            return parent.last_node or AUTOGRAD  # the engine runs it directly after the node that gave the gradient
        if is_node:
            creator = self.creators.get((event.forward_thread, event.sequence), OTHER)
            return replace(creator, phase="backward") if creator.phase == "forward" else AUTOGRAD
        if (cost := self.costs.get(event.name)) is not None:
            return replace(cost, phase="backward") if parent.in_backward else cost
        return parent.cost

    def _record(self, event: Event, cost: Cost) -> None:
        # A node has the number of the last operation that began with it. Earlier ones created no node.
        if event.sequence >= 0 and not self.stack[-1].in_backward:
            self.creators[event.thread, event.sequence] = cost
        if event.correlation and not event.linked:
            self.rows[event.correlation] = cost
        if event.name.startswith(COUNTED):
            self.result.operations[int(event.name.removeprefix(COUNTED))] = cost
        elif event.name in _WAITS:
            self.result.waits += 1
            self.result.wait_nanoseconds += event.end - event.start


def _device_time(kernels: Iterable[Event], rows: Mapping[int, Cost], window: Event) -> dict[Cost, int]:
    """Return the time of the device by row. While kernels overlap, the time belongs to the one that began first."""
    nanoseconds: dict[Cost, int] = defaultdict(int)
    covered = window.start
    for kernel in kernels:
        nanoseconds[IDLE] += max(0, kernel.start - covered)
        cost = next((c for prefix, c in _COPIES.items() if kernel.name.startswith(prefix)), None)
        end = min(kernel.end, window.end)
        nanoseconds[cost or rows.get(kernel.linked, OTHER)] += max(0, end - max(kernel.start, covered))
        covered = max(covered, end)
    nanoseconds[IDLE] += window.end - covered
    return nanoseconds
