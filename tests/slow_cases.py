"""A plugin of pytest that runs a sample of the slow tests: PYTHONPATH=tests pytest -p slow_cases --slow-cases N."""

from __future__ import annotations

import random

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow-cases",
        type=int,
        metavar="N",
        help="of each test marked slow, run only N of its parameter sets, drawn by --slow-seed (default: all)",
    )
    parser.addoption("--slow-seed", default="0", metavar="TEXT", help="seed of --slow-cases (default: 0)")


LONGEST = "test_anchors.py"  # Trains for minutes. At the end, one process would run it while the others are idle.


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)
    n_cases = config.getoption("--slow-cases")
    if n_cases is None:
        return
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    omitted: set[pytest.Item] = set()
    for name, cases in functions.items():
        chosen = random.Random(config.getoption("--slow-seed") + name).sample(cases, min(n_cases, len(cases)))
        omitted |= set(cases) - set(chosen)
    if omitted:
        config.hook.pytest_deselected(items=list(omitted))
        items[:] = [item for item in items if item not in omitted]
