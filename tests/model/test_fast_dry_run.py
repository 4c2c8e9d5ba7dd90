"""The tools that let a dry run start at once count what torch's own tools count."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from support import admit, small
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import gptzoo
from gptzoo.components.activation import Activation
from gptzoo.model import dry_run
from gptzoo.model.shapes.eager_references import _HIDDEN_FORM, _hidden_functions, eager_references
from gptzoo.model.shapes.flop_counter import FlopCounter, HigherOrderOperation
from gptzoo.model.shapes.pretended_cpu import NotPretended, PretendedCpu
from gptzoo.spec.model import ModelSpec


def torch_flops(spec: ModelSpec) -> tuple[int, int, int]:
    counter = FlopCounterMode(display=False)
    return dry_run._count_flops(spec, 8, counter, counter.get_total_flops)


@pytest.mark.slow
def test_counts_of_every_component_are_those_of_torch(any_spec: dict[str, Any]) -> None:
    spec = gptzoo.load_model_spec(any_spec)
    assert dry_run.count_flops(spec, 8) == torch_flops(spec)
    for precision in ("fp32", "bf16"):
        assert dry_run.count_bytes(spec, 2, 8, precision) == dry_run._count_bytes(
            spec, 2, 8, precision, FakeTensorMode()
        )


def test_a_model_of_the_defaults_is_counted_without_fake_tensors() -> None:
    spec = gptzoo.load_model_spec(small())
    assert dry_run.count_flops(spec, 8) == torch_flops(spec)
    expected = dry_run._count_bytes(spec, 2, 8, "fp32", FakeTensorMode())
    assert dry_run._count_bytes(spec, 2, 8, "fp32", PretendedCpu()) == expected


def test_an_operation_that_is_no_matrix_product_is_counted() -> None:
    x, kernel = torch.randn(2, 3, 8), torch.randn(5, 3, 3)
    with FlopCounter() as counter:
        torch.nn.functional.conv1d(x, kernel)
    assert counter.total == 2 * 2 * 5 * 6 * 3 * 3


def test_an_operation_that_calls_functions_is_left_to_torch() -> None:
    with FlopCounter(), pytest.raises(HigherOrderOperation, match="cond"):
        torch.ops.higher_order.cond(torch.tensor(True), torch.sin, torch.cos, (torch.ones(2),))


class ReadsAConstant(Activation):
    """It reads the value of a constant, which has none on the pretended CPU."""

    name = "reads_a_constant"

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 if x.is_meta else torch.tensor([2.0]).item())


@pytest.mark.usefixtures("fresh_registry")
def test_a_component_that_reads_a_constant_is_counted_by_torch() -> None:
    admit(ReadsAConstant)
    spec = gptzoo.load_model_spec(small(activation="reads_a_constant"))
    with pytest.raises(RuntimeError):
        dry_run._count_bytes(spec, 2, 8, "fp32", PretendedCpu())
    assert dry_run.count_bytes(spec, 2, 8, "fp32") == dry_run._count_bytes(spec, 2, 8, "fp32", FakeTensorMode())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_an_operation_that_depends_on_the_device_is_left_to_torch(dtype: torch.dtype) -> None:
    with PretendedCpu(), eager_references(), pytest.raises(NotPretended):
        torch.nn.functional.layer_norm(torch.ones(2, 4, dtype=dtype), (4,))


def test_functions_of_the_meta_device_are_as_before_after_the_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "torch._dynamo", raising=False)  # as in a process that has not imported it
    functions = list(_hidden_functions())
    with eager_references():
        assert all(getattr(function, _HIDDEN_FORM) is function for function in functions)
    assert not any(hasattr(function, _HIDDEN_FORM) for function in functions)


def test_with_the_compiler_imported_the_block_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch._dynamo", sys)
    functions = list(_hidden_functions())
    with eager_references():
        assert not any(hasattr(function, _HIDDEN_FORM) for function in functions)
