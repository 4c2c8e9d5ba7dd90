"""A component with options of many types, through training, resuming, sampling, evaluation and comparison."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = '''
import datetime, enum, torch, gptzoo
from pathlib import Path
from pydantic import BaseModel


class Mode(str, enum.Enum):
    FAST = "fast"
    SLOW = "slow"


class Nested(BaseModel):
    pair: tuple[int, int] = (1, 2)


class Mine(gptzoo.Optimizer):
    """AdamW with options of many types."""

    name = "mine"

    class Config(gptzoo.Optimizer.Config):
        lr: float = 0.01
        betas: tuple[float, float] = (0.9, 0.95)
        names: set[str] = {"a", "b"}
        file: Path = Path("x")
        mode: Mode = Mode.FAST
        pause: datetime.timedelta = datetime.timedelta(seconds=3)
        by_layer: dict[int, float] = {0: 1.0}
        nested: Nested = Nested()

    def create(self, parameters):
        assert isinstance(self.config.betas, tuple)
        assert isinstance(self.config.mode, Mode)
        assert isinstance(self.config.file, Path)
        assert isinstance(self.config.pause, datetime.timedelta)
        return torch.optim.AdamW(list(parameters.values()), lr=self.config.lr, betas=self.config.betas)


@gptzoo.hookimpl
def gptzoo_components():
    return [Mine]
'''


@pytest.mark.slow
def test_a_run_with_such_options_is_trained_resumed_sampled_evaluated_and_compared(tmp_path: Path) -> None:
    (tmp_path / "plugin.py").write_text(PLUGIN)
    (tmp_path / "text.txt").write_text("one two three four five six seven eight nine ten\n" * 60)
    spec = {
        "model": {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2},
        "corpus": {"type": "text", "path": "text.txt"},
        "batch_size": 4,
        "steps": 3,
        "device": "cpu",
        "optimizer": {
            "type": "mine",
            "betas": [0.8, 0.9],
            "names": ["x", "y"],
            "file": "here",
            "mode": "slow",
            "pause": "PT5S",
            "by_layer": {"3": 0.5},
            "nested": {"pair": [3, 4]},
        },
    }
    (tmp_path / "run.json").write_text(json.dumps(spec))

    def gptzoo(*arguments: str) -> str:
        command = [sys.executable, "-m", "gptzoo", *arguments, "--plugin", "plugin.py"]
        result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    gptzoo("train", "run.json", "--out", "run", "--set", "optimizer.betas=[0.7,0.8]", "--set", "optimizer.mode=fast")
    resolved = json.loads((tmp_path / "run" / "run.json").read_text())["optimizer"]
    expected = spec["optimizer"] | {"betas": [0.7, 0.8], "mode": "fast", "lr": 0.01}
    assert {name: resolved[name] for name in expected} == expected
    (tmp_path / "run" / "status.json").write_text('{"status": "interrupted"}')
    gptzoo("train", "run/run.json", "--out", "run", "--resume", "--extend", "--set", "steps=5")
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 5
    gptzoo("sample", "run", "--prompt", "one", "--max-new-tokens", "3")
    gptzoo("eval", "run")
    gptzoo("diff", "run.json", "run/run.json")
    ablation = {
        "name": "a",
        "base": "run.json",
        "seeds": 1,
        "axes": {"optimizer.betas": {"choices": [[0.8, 0.9], [0.7, 0.9]]}, "optimizer.mode": ["fast", "slow"]},
    }
    (tmp_path / "ablation.json").write_text(json.dumps(ablation))
    gptzoo("ablate", "ablation.json", "--out", "abl")
