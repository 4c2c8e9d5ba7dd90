"""The attribution of events to components, on hand-written events."""

from __future__ import annotations

from gptzoo.profiling.attribution import AUTOGRAD, IDLE, OTHER, TO_DEVICE, TO_HOST, WINDOW, attribute
from gptzoo.profiling.events import Event
from gptzoo.profiling.scopes import Cost

FFN, HEAD = Cost("ffn:mlp", "forward"), Cost("head", "forward")
FFN_BACKWARD, HEAD_BACKWARD = Cost("ffn:mlp", "backward"), Cost("head", "backward")
STEP = Cost("gradient", "optimizer")
COSTS = {"ffn": FFN, "head": HEAD, "gradient": STEP}
NODE = "autograd::engine::evaluate_function: "


def test_each_nanosecond_belongs_to_the_innermost_scope() -> None:
    events = [
        Event(WINDOW, 0, 100),
        Event("ffn", 10, 60),
        Event("aten::mm", 20, 30),
        Event("head", 40, 50),
        Event("outside of the window", 200, 300),
    ]
    result = attribute(events, COSTS)
    assert result.nanoseconds == {OTHER: 50, FFN: 40, HEAD: 10}
    assert result.window == 100


def test_a_backward_operation_belongs_to_the_last_forward_operation_of_its_number() -> None:
    events = [
        Event(WINDOW, 0, 1000),
        Event("gradient", 0, 1000),
        Event("ffn", 10, 20),
        Event("aten::mm", 11, 12, sequence=7),
        Event("aten::arange", 13, 14, sequence=8),  # makes no node, so the next operation has the number too
        Event("head", 30, 40),
        Event("aten::mm", 31, 32, sequence=8),
        Event(f"{NODE}MmBackward0", 100, 200, sequence=8),
        Event("aten::mm", 120, 180),
        Event(f"{NODE}torch::autograd::AccumulateGrad", 210, 220),  # of the head's weight
        Event(f"{NODE}MmBackward0", 300, 400, sequence=7),
        Event(f"{NODE}Unknown", 400, 405, sequence=99),
    ]
    result = attribute(events, COSTS)
    assert result.nanoseconds == {
        FFN: 10,
        HEAD: 10,
        HEAD_BACKWARD: 110,
        FFN_BACKWARD: 100,
        AUTOGRAD: 10 + 80 + 5,  # between the nodes, and the unknown one
        STEP: 1000 - 20 - 210 - 95,
    }


def test_a_scope_in_the_backward_pass_is_recomputation_of_that_component() -> None:
    events = [
        Event(WINDOW, 0, 100),
        Event("head", 0, 10),
        Event("aten::mm", 1, 2, sequence=3),
        Event(f"{NODE}Checkpoint", 20, 80, sequence=3),
        Event("ffn", 30, 60),
        Event(f"{NODE}Inner", 65, 75, sequence=999),  # a backward pass inside a backward pass
    ]
    result = attribute(events, COSTS)
    assert result.nanoseconds == {HEAD: 10, HEAD_BACKWARD: 30, FFN_BACKWARD: 30, OTHER: 30}


def test_on_a_gpu_each_kernel_belongs_to_the_operation_that_launched_it_on_any_thread() -> None:
    events = [
        Event(WINDOW, 0, 1000, thread=1),
        Event("aten::to", 5, 10, thread=1, correlation=1),
        Event("ffn", 10, 20, thread=1, correlation=2),
        Event("aten::mm", 11, 15, thread=1, sequence=4, correlation=3),
        Event("cudaLaunchKernel", 12, 13, thread=1, correlation=77, linked=3),
        Event(f"{NODE}MmBackward0", 30, 50, thread=9, forward_thread=1, sequence=4, correlation=5),
        Event("aten::mm", 31, 40, thread=9, correlation=6),
        Event("cudaStreamSynchronize", 60, 900, thread=1, correlation=78, linked=0),
        Event("Memcpy HtoD (Pinned -> Device)", 50, 100, linked=1, on_device=True),
        Event("gemm", 150, 400, linked=3, on_device=True),
        Event("gemm", 350, 600, linked=6, on_device=True),  # overlaps the one before
        Event("Memcpy DtoH (Device -> Pageable)", 700, 720, linked=3, on_device=True),
    ]
    result = attribute(events, COSTS)
    assert result.nanoseconds == {
        TO_DEVICE: 50,
        FFN: 250,
        FFN_BACKWARD: 200,
        TO_HOST: 20,
        IDLE: 50 + 50 + 100 + 280,
    }
    assert sum(result.nanoseconds.values()) == result.window
    assert (result.waits, result.wait_nanoseconds) == (1, 840)
