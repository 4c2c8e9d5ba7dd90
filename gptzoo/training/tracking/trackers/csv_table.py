"""The tracker `csv`: the metrics as a table for spreadsheets and pandas."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from gptzoo.training.run.run_view import RunView, Status
from gptzoo.training.tracking.tracker import Tracker
from gptzoo.utils.atomic import write_text


class CsvTracker(Tracker):
    """CSV tracker: `metrics.csv` in the run folder has one row per step and one column per number."""

    name = "csv"

    path: Path
    columns: list[str]
    file: TextIO

    def start(self, run: RunView) -> int:
        self.path = run.folder / "metrics.csv"
        self.columns, rows = _read(self.path)
        rows = [row for row in rows if int(row["step"]) <= run.resume_step]
        self._rewrite(rows)
        return int(rows[-1]["step"]) if rows else -1

    def log(self, row: Mapping[str, Any]) -> None:
        cells = self.scalars(row)
        if new_columns := [name for name in cells if name not in self.columns]:
            self.file.close()
            _, rows = _read(self.path)
            self.columns += new_columns
            self._rewrite(rows)
        csv.DictWriter(self.file, self.columns).writerow(cells)
        self.file.flush()

    def finish(self, status: Status) -> None:
        self.file.close()

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.path, text.getvalue())
        self.file = open(self.path, "a", encoding="utf-8", newline="")  # noqa: SIM115  # open until `finish`


def _read(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Return the columns and rows of a table, without a last line that a kill left incomplete."""
    if not path.exists():
        return ["step"], []
    with open(path, encoding="utf-8", newline="") as file:
        complete_lines = [line for line in file if line.endswith("\n")]
    reader = csv.DictReader(complete_lines)
    return list(reader.fieldnames or ["step"]), list(reader)
