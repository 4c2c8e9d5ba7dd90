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
    parser.addoption(
        "--slow-share",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="run only this share of the tests marked slow, drawn by --slow-seed (default: 1)",
    )
    parser.addoption("--slow-seed", default="0", metavar="TEXT", help="seed of the draws (default: 0)")


LONGEST = "test_anchors.py"
"""Trains for many minutes. At the end, one process would run it while the others are idle. A share leaves it out."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name != LONGEST)
    n_cases, share, seed = (config.getoption(f"--slow-{name}") for name in ("cases", "share", "seed"))
    functions: dict[str, list[pytest.Item]] = {}
    for item in items:
        if item.get_closest_marker("slow"):
            functions.setdefault(item.nodeid.partition("[")[0], []).append(item)
    names = sorted(name for name in functions if share == 1 or LONGEST not in name)
    drawn = set(random.Random(seed).sample(names, round(share * len(names))))
    omitted: set[pytest.Item] = set()
    for name, cases in functions.items():
        n = 0 if name not in drawn else len(cases) if n_cases is None else min(n_cases, len(cases))
        omitted |= set(cases) - set(random.Random(seed + name).sample(cases, n))
    if omitted:
        config.hook.pytest_deselected(items=list(omitted))
        items[:] = [item for item in items if item not in omitted]
