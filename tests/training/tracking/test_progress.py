"""Progress in a terminal, a log file and a notebook."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from gptzoo.training.tracking.progress import LineProgress, format_metrics


def train_command(spec_file: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "gptzoo", "train", str(spec_file), "--out", str(out), "--bare"]


def test_a_log_file_has_one_plain_line_per_evaluation(spec_file: Path, tmp_path: Path) -> None:
    result = subprocess.run(train_command(spec_file, tmp_path / "run"), capture_output=True, text=True, check=True)
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.startswith("step ")]
    assert [line.split()[1] for line in lines] == ["0/12", "5/12", "10/12", "12/12"]
    assert re.fullmatch(r"step 5/12  loss \d\.\d{4}  val \d\.\d{4} \(\d\.\d{3} bits/byte\)  [\d,]+ tokens/s", lines[1])
    assert result.stderr.isprintable() or "\x1b" not in result.stderr
    assert "\r" not in result.stderr


def test_a_terminal_has_one_bar_below_the_evaluations(spec_file: Path, tmp_path: Path) -> None:
    terminal, process_end = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120"}
    process = subprocess.Popen(
        train_command(spec_file, tmp_path / "run"), stderr=process_end, stdout=process_end, env=environment
    )
    os.close(process_end)
    output = b""
    try:
        while part := os.read(terminal, 65536):
            output += part
    except OSError:  # Linux's signal that the other end is closed
        pass
    os.close(terminal)
    assert process.wait() == 0
    screen = Screen(columns=120)
    screen.feed(output.decode())
    lines = [line.rstrip() for line in screen.lines if line.strip()]
    evaluations = [line for line in lines if line.startswith("step ")]
    assert [line.split()[1] for line in evaluations] == ["0/12", "5/12", "10/12", "12/12"]
    bars = [line for line in lines if "━" in line]
    assert len(bars) == 1, "the bar must be redrawn in place"
    assert "12/12" in bars[0]
    assert lines.index(bars[0]) > lines.index(evaluations[-1])


class Screen:
    """A terminal that supports what the bar uses: text, line ends, cursor up, erase line."""

    def __init__(self, columns: int):
        self.lines, self.row, self.column, self.columns = [""], 0, 0, columns

    def feed(self, text: str) -> None:
        for code, plain in re.findall(r"(\x1b\[[?\d;]*[A-Za-z]|\r|\n)|([^\x1b\r\n]+)", text):
            if code == "\r":
                self.column = 0
            elif code == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif code.endswith("A"):
                self.row -= int(code[2:-1] or 1)
            elif code.endswith("K"):
                self.lines[self.row] = ""
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + plain + line[self.column + len(plain) :]
                self.column += len(plain)


@pytest.mark.slow
def test_a_notebook_has_one_bar_and_saves_its_evaluations(run_spec: dict[str, Any], tmp_path: Path) -> None:
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    code = (
        f"import gptzoo, json\ngptzoo.train(json.loads({json.dumps(json.dumps(run_spec))}), {str(tmp_path / 'run')!r});"
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    outputs = notebook.cells[0].outputs
    (display,) = [output for output in outputs if output.output_type == "display_data"]
    page = display["data"]["text/html"]
    assert page.count("<progress ") == 1
    assert '<progress value="12" max="12">' in page
    assert re.findall(r"^step (\d+)/12  ", page, re.MULTILINE) == ["0", "5", "10", "12"]
    assert "step 12/12" in display["data"]["text/plain"]
    assert not [output for output in outputs if output.output_type == "stream"], (
        "there must be no warnings and no second bar"
    )


def test_a_log_file_has_a_line_every_ten_seconds_between_evaluations(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = [0.0]
    monkeypatch.setattr("gptzoo.training.tracking.progress.time.monotonic", lambda: clock[0])
    lines = LineProgress(100)
    for step in range(1, 31):
        clock[0] = float(step)
        lines.show({"step": step, "train/loss": 1.0})
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["10/100", "20/100", "30/100"]


def test_shares_of_right_answers_are_those_that_the_run_declares() -> None:
    row = {"step": 3, "val/loss": 1.0, "val/bits_per_byte": 1.5, "val/accuracy": 0.25, "val/long/at_end": 0.5, "x": 1}
    assert format_metrics(row, ("accuracy", "at_end")).split("  ")[1:] == ["accuracy 25.0%", "long/at_end 50.0%"]
    assert format_metrics(row) == "val 1.0000 (1.500 bits/byte)"


def test_a_row_without_main_metrics_is_formatted_as_nothing() -> None:
    assert format_metrics({"step": 3}) == ""
