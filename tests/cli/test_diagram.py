"""The drawing of a block."""

from __future__ import annotations

import pytest

from gptzoo.cli.diagram import draw
from gptzoo.inspection.norm_trace import Operation

PRE_NORM = """
╭─┤
│ ├ norm
│ ├ attention
╰─⊕ add
╭─┤
│ ├ norm
│ ├ ffn
╰─⊕ add
"""
POST_NORM = """
╭─┤
│ ├ attention
╰─⊕ add
  ├ norm
╭─┤
│ ├ ffn
╰─⊕ add
  ├ norm
"""
PARALLEL = """
  ╭─┤
  │ ├ norm
╭─┼─┤
│ │ ├ attention
│ ╰─⊕ add
│ ╭─╯
╰─┼─┬ ffn
  ╰─⊕ add
"""
TWICE = """
╭─┤
│ ├ a
├─⊕ add
│ ├ b
╰─┼ mul
"""


def drawing(*steps: tuple[str, tuple[int, ...]]) -> str:
    operations = [Operation(name, inputs) for name, inputs in steps]
    lines = []
    for line in draw(operations):
        label = "" if line.operation is None else f" {operations[line.operation].name}"
        lines.append((line.drawing + label).rstrip())
    return "\n".join(["", *lines, ""])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (
            [("norm", (-1,)), ("attention", (0,)), ("add", (-1, 1)), ("norm", (2,)), ("ffn", (3,)), ("add", (2, 4))],
            PRE_NORM,
        ),
        (
            [("attention", (-1,)), ("add", (-1, 0)), ("norm", (1,)), ("ffn", (2,)), ("add", (2, 3)), ("norm", (4,))],
            POST_NORM,
        ),
        ([("norm", (-1,)), ("attention", (0,)), ("add", (-1, 1)), ("ffn", (0,)), ("add", (2, 3))], PARALLEL),
        ([("a", (-1,)), ("add", (-1, 0)), ("b", (1,)), ("mul", (2, -1))], TWICE),
    ],
    ids=["pre-norm", "post-norm", "parallel", "one value used twice"],
)
def test_a_rail_carries_a_value_past_operations_that_do_not_take_it(
    steps: list[tuple[str, tuple[int, ...]]], expected: str
) -> None:
    assert drawing(*steps) == expected


def test_all_lines_have_the_same_width_and_rails_continue_below_a_label() -> None:
    operations = [Operation("norm", (-1,)), Operation("attention", (0,)), Operation("add", (-1, 1))]
    lines = list(draw(operations))
    assert {len(line.drawing) for line in lines} == {3}
    assert [line.below for line in lines if line.operation is not None] == ["│ │", "│ │", "  │"]
