"""The commands of `benchmarks/gpu.sh`, without a GPU: time limits, results after each part, and resuming."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def parts() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_parts", ROOT / "benchmarks/gpu/parts.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpu_parts"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["gpu_parts"]


def part(parts: Any, name: str, code: str, seconds: float = 60) -> Any:
    return parts.Part(name, ("-c", "raise SystemExit('not on a CPU')"), seconds, ("-c", code))


def run(parts: Any, out: Path, *selected: Any, seconds: float = 600, **options: Any) -> tuple[bool, dict[str, Any]]:
    passed = parts.run_parts(selected, parts.Machine("cpu"), out, time.monotonic() + seconds, **options)
    return passed, json.loads(out.read_text())


def test_each_part_adds_its_result_and_a_failure_does_not_stop_the_others(parts: Any, tmp_path: Path) -> None:
    passed, results = run(
        parts,
        tmp_path / "out.json",
        part(parts, "one", "print('noise'); print('{\"ms\": 3}')"),
        part(parts, "two", "raise ValueError('what went wrong')"),
        part(parts, "three", "print('===== 2 failed, 7 passed, 1 skipped in 3.1s ====='); raise SystemExit(1)"),
    )
    assert not passed
    assert results["machine"]["device"] == "cpu"
    assert results["machine"]["name"].endswith("tiny shapes")
    assert results["parts"]["one"]["result"] == {"ms": 3}
    assert results["parts"]["two"]["status"] == "failed"
    assert "what went wrong" in results["parts"]["two"]["output"]
    assert results["parts"]["three"]["result"] == {"failed": 2, "passed": 7, "skipped": 1}


def test_parts_with_a_result_are_not_run_again(parts: Any, tmp_path: Path) -> None:
    count, out = tmp_path / "count", tmp_path / "out.json"
    counting = part(parts, "counting", f"open({str(count)!r}, 'a').write('x')")
    other = part(parts, "other", "print('{}')")
    assert run(parts, out, counting)[0]
    assert run(parts, out, counting, other)[0]
    assert count.read_text() == "x"
    assert run(parts, out, counting, again=True)[0]
    assert count.read_text() == "xx"
    stored = json.loads(out.read_text())
    assert set(stored["parts"]) == {"counting", "other"}
    out.write_text(json.dumps({**stored, "machine": {**stored["machine"], "commit": "another"}}))
    run(parts, out, counting)
    assert count.read_text() == "xxx"  # the results were those of other code


def test_a_part_ends_at_its_limit_with_its_processes_and_is_run_again(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "CPU_FACTOR", 1)
    monkeypatch.setattr(parts, "MIN_SECONDS", 0.0)
    mark, out = tmp_path / "mark", tmp_path / "out.json"
    child = f"import time; time.sleep(2); open({str(mark)!r}, 'w').write('')"
    code = f"import subprocess, sys; print('begun', flush=True); subprocess.run([sys.executable, '-c', {child!r}])"
    passed, results = run(parts, out, part(parts, "slow", code, seconds=1))
    assert not passed
    assert results["parts"]["slow"]["status"] == "stopped after its time limit"
    assert "begun" in results["parts"]["slow"]["output"]
    assert run(parts, out, part(parts, "slow", "print('{}')"))[0]
    time.sleep(1.5)  # the child would have ended by now
    assert not mark.exists()


def test_a_part_for_which_no_time_is_left_is_left_out(parts: Any, tmp_path: Path) -> None:
    passed, results = run(parts, tmp_path / "out.json", part(parts, "late", "print('{}')"), seconds=2)
    assert not passed
    assert results["parts"]["late"]["status"] == "left out"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "names"), [("speed", ["limits", "eager", "batch_1"]), ("correctness", ["environment", "resume"])]
)
def test_the_commands_run_on_a_cpu(command: str, names: list[str], tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    options = ["--device", "cpu", "--out", str(out), "--parts", *names]
    subprocess.run(["bash", str(ROOT / "benchmarks/gpu.sh"), command, *options], check=True)
    results = json.loads(out.read_text())
    assert {name: results["parts"][name]["status"] for name in names} == dict.fromkeys(names, "passed")
