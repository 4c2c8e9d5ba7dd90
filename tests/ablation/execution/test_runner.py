"""Each trial runs exactly once, whatever happens to it, to its executor and to the runner."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from runs import rows

import gptzoo
from gptzoo.ablation.execution.executor import Job
from gptzoo.ablation.execution.local_executor import LocalExecutor
from gptzoo.ablation.execution.runner import RetryPolicy, Runner
from gptzoo.ablation.execution.trial_folder import TrialFolder
from gptzoo.spec.run import RunSpec

MISBEHAVE = Path(__file__).parents[1] / "misbehave.py"


@dataclass(frozen=True)
class Named:
    name: str
    spec: RunSpec


@pytest.fixture
def plugin(fresh_registry: Any) -> Path:
    gptzoo.load_plugin(MISBEHAVE)
    return MISBEHAVE


def spec(how: str = "well", *, seed: int = 1, steps: int = 8, save_every: int = 2) -> dict[str, Any]:
    """Return a run that takes a moment. Its model calls two activations per step."""
    return {
        "model": {
            "context_length": 16,
            "d_model": 16,
            "n_layers": 2,
            "n_heads": 2,
            "activation": {"type": "misbehave", "how": how},
        },
        "batch_size": 4,
        "steps": steps,
        "seed": seed,
        "eval": {"every": 1000},
        "checkpoint": {"every": save_every},
        "device": "cpu",
    }


def trials(*hows: str, **options: Any) -> list[Named]:
    named = enumerate(hows)
    return [Named(f"{how}-{n}", gptzoo.load_run_spec(spec(how, seed=n + 1, **options))) for n, how in named]


def local(n_workers: int = 2) -> LocalExecutor:
    executor: LocalExecutor = LocalExecutor.Config(n_workers=n_workers).build()
    return executor


def folder(tmp_path: Path, name: str) -> TrialFolder:
    return TrialFolder(tmp_path / "ablation" / "trials" / name)


@pytest.mark.slow
def test_a_trial_is_trained_exactly_like_a_run_by_itself(tmp_path: Path, plugin: Path) -> None:
    named = trials("well", "well", "well")
    runner = Runner(named, tmp_path / "ablation", local(), arguments=["--plugin", str(plugin)])
    assert set(runner.run().values()) == {"done"}
    alone = named[1]
    command = [sys.executable, "-m", "gptzoo", "train", str(folder(tmp_path, alone.name).spec), "--bare"]
    subprocess.run([*command, "--out", str(tmp_path / "alone"), "--plugin", str(plugin)], check=True)
    assert rows(tmp_path / "alone") == rows(folder(tmp_path, alone.name).path)
    assert not (folder(tmp_path, alone.name).path / "loss.png").exists()


def test_a_trial_that_is_done_is_not_run_again(tmp_path: Path, plugin: Path) -> None:
    arguments = ["--plugin", str(plugin)]
    Runner(trials("well"), tmp_path / "ablation", local(), arguments=arguments).run()
    before = folder(tmp_path, "well-0").metrics.stat().st_mtime_ns
    states = Runner(trials("well", "well"), tmp_path / "ablation", local(), arguments=arguments).run()
    assert states == {"well-0": "done", "well-1": "done"}
    assert folder(tmp_path, "well-0").metrics.stat().st_mtime_ns == before


@pytest.mark.slow
def test_five_ways_to_fail_have_different_reasons_and_the_other_trials_finish(tmp_path: Path, plugin: Path) -> None:
    # There is no checkpoint on the way: a second attempt would resume from it, after the fatal step.
    named = trials("well", "raise", "segfault", "well", "exit", "nan", "hang", "well", save_every=100)
    policy = RetryPolicy(retries=1, hang_timeout=20.0)
    runner = Runner(named, tmp_path / "ablation", local(), retry_policy=policy, arguments=["--plugin", str(plugin)])
    states = runner.run()
    assert [name for name, state in states.items() if state == "done"] == ["well-0", "well-3", "well-7"]
    reasons = {name: folder(tmp_path, name).failure for name, state in states.items() if state == "failed"}
    assert reasons["raise-1"] == "exited with code 1: ValueError: it went wrong"
    assert reasons["segfault-2"] == "killed by SIGSEGV"
    assert reasons["exit-4"] == "exited with code 137 (usually out of memory)"
    assert "diverged" in (reasons["nan-5"] or "")
    assert "first in the output of blocks" in (reasons["nan-5"] or "")
    assert reasons["hang-6"] == "hung: no step for 20 s"
    attempts = {name: len(folder(tmp_path, name).attempts) for name in reasons}
    assert attempts == {"raise-1": 2, "segfault-2": 2, "exit-4": 2, "nan-5": 1, "hang-6": 2}
    again = Runner(named, tmp_path / "ablation", local(), retry_policy=policy, arguments=["--plugin", str(plugin)])
    assert again.run() == states  # at once, because failed trials are not run again


RUNNER = """
import json, sys
from pathlib import Path
import gptzoo
from gptzoo.ablation.execution.executor import Job
from gptzoo.ablation.execution.local_executor import LocalExecutor
from gptzoo.ablation.execution.runner import Runner
sys.path.insert(0, sys.argv[1])
gptzoo.load_plugin(sys.argv[3])
from test_runner_trials import Named
trials = [Named(name, gptzoo.load_run_spec(spec)) for name, spec in json.loads(sys.argv[4]).items()]
executor = LocalExecutor.Config(n_workers=2).build()
states = Runner(trials, Path(sys.argv[2]), executor, arguments=["--plugin", sys.argv[3]]).run()
sys.exit(set(states.values()) != {"done"})
"""


def runner_process(tmp_path: Path, plugin: Path, specs: dict[str, Any]) -> subprocess.Popen[str]:
    (tmp_path / "test_runner_trials.py").write_text(
        "from dataclasses import dataclass\nfrom typing import Any\n\n"
        "@dataclass(frozen=True)\nclass Named:\n    name: str\n    spec: Any\n"
    )
    command = [sys.executable, "-c", RUNNER, str(tmp_path), str(tmp_path / "ablation"), str(plugin), json.dumps(specs)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str]) -> None:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr


@pytest.mark.slow
def test_a_runner_that_is_killed_and_started_again_ends_with_the_same_runs(tmp_path: Path, plugin: Path) -> None:
    specs = {f"trial-{n}": spec(seed=n + 1, steps=60) for n in range(4)}
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    wait_for(runner_process(undisturbed, plugin, specs))
    for kill_after in (1.0, 3.0, 4.0, 5.0, 6.0):
        process = runner_process(tmp_path, plugin, specs)
        time.sleep(kill_after)
        process.kill()
        process.communicate()
    wait_for(runner_process(tmp_path, plugin, specs))
    for name in specs:
        assert rows(folder(tmp_path, name).path) == rows(folder(undisturbed, name).path)


@pytest.mark.slow
def test_two_runners_share_the_trials_and_run_none_twice(tmp_path: Path, plugin: Path) -> None:
    specs = {f"trial-{n}": spec(seed=n + 1, steps=40) for n in range(6)}
    both = [runner_process(tmp_path, plugin, specs) for _ in range(2)]
    for process in both:
        wait_for(process)
    for name in specs:
        log = folder(tmp_path, name).log.read_text()
        assert log.count("40 steps, val/loss") == 1
        assert not folder(tmp_path, name).attempts


@pytest.mark.slow
def test_after_a_signal_the_trials_save_and_are_not_counted_as_failed(tmp_path: Path, plugin: Path) -> None:
    specs = {f"trial-{n}": spec(seed=n + 1, steps=2000) for n in range(2)}
    process = runner_process(tmp_path, plugin, specs)
    until = time.monotonic() + 120
    while time.monotonic() < until and not all(folder(tmp_path, name).metrics.exists() for name in specs):
        time.sleep(0.1)
    time.sleep(1.0)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=120)
    assert "SIGTERM: the running trials have saved" in stderr
    for name in specs:
        assert json.loads((folder(tmp_path, name).path / "status.json").read_text())["status"] == "interrupted"
        assert folder(tmp_path, name).state == "waiting"
        assert not folder(tmp_path, name).attempts


def test_the_fork_server_leaves_no_process_behind(tmp_path: Path, plugin: Path) -> None:
    executor = local()
    Runner(trials("well"), tmp_path / "ablation", executor, arguments=["--plugin", str(plugin)]).run()
    assert executor.fork_server is None
    children = subprocess.run(["ps", "--ppid", str(os.getpid()), "-o", "args="], capture_output=True, text=True).stdout
    assert "gptzoo.ablation.execution.fork_server" not in children


IMPORTS = """
import sys
from importlib.abc import MetaPathFinder

import gptzoo


@gptzoo.hookimpl
def gptzoo_components():
    return []


class PrintImports(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        print("import", name, file=sys.stderr)


sys.meta_path.insert(0, PrintImports())
"""


@pytest.mark.slow
def test_a_trial_inherits_the_slow_imports_of_the_fork_server(tmp_path: Path) -> None:
    plugin = tmp_path / "print_imports.py"
    plugin.write_text(IMPORTS)
    run = gptzoo.load_run_spec(spec() | {"model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2}})
    executor = LocalExecutor.Config(n_workers=1).build()
    assert Runner([Named("one", run)], tmp_path, executor, arguments=("--plugin", str(plugin))).run() == {"one": "done"}
    log = (tmp_path / "trials" / "one" / "train.log").read_text()
    imported = [line.split()[1] for line in log.splitlines() if line.startswith("import ")]
    assert len(imported) < 20, imported  # torch._dynamo alone imports 600 modules


def test_when_the_fork_server_dies_its_jobs_fail_and_a_new_one_is_started(tmp_path: Path) -> None:
    with LocalExecutor.Config(n_workers=2).build() as executor:
        first = executor.start(Job(("--version",), tmp_path / "first.log"))
        os.kill(executor.fork_server.process.pid, signal.SIGKILL)
        executor.fork_server.process.wait()
        second = executor.start(Job(("--version",), tmp_path / "second.log"))
        executor.stop(second)
        while executor.poll(second) is None:
            executor.wait([second], 0.1)
        assert (executor.poll(second), executor.free_slots) == (-signal.SIGKILL, 2)
        assert executor.poll(first) in (0, -signal.SIGKILL)  # it may have ended before
        third = executor.start(Job(("--version",), tmp_path / "third.log"))
        executor.wait([third], 60)
        assert executor.poll(third) == 0


@pytest.mark.parametrize(
    ("visible", "gpus"),
    [("0,3", ["0", "3"]), ("GPU-8a1, GPU-2", ["GPU-8a1", "GPU-2"]), ("-1", []), ("", []), ("1,-1,2", ["1"])],
)
def test_the_gpus_of_trials_are_those_that_cuda_sees(
    visible: str, gpus: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    executor = LocalExecutor.Config().build()
    assert executor.gpus == gpus
    assert executor.n_workers == len(gpus) or not gpus


ASKS_FOR_CUDA = """
import os
import gptzoo
print("nvml", os.environ.get("PYTORCH_NVML_BASED_CUDA_CHECK"))


@gptzoo.hookimpl
def gptzoo_components():
    return []
"""


@pytest.mark.slow
def test_a_plugin_that_asks_for_cuda_when_imported_does_not_initialise_cuda_in_the_fork_server(tmp_path: Path) -> None:
    plugin = tmp_path / "asks.py"
    plugin.write_text(ASKS_FOR_CUDA)
    log = tmp_path / "log"
    with LocalExecutor.Config(n_workers=1).build() as executor:
        job = executor.start(Job(("plugins", "--plugin", str(plugin)), log))
        executor.wait([job], 60)
        assert executor.poll(job) == 0
    assert "nvml 1" in log.read_text()
