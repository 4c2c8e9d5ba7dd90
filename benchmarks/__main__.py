"""Measure gptzoo beside its peers, or check the results against bounds.

    python -m benchmarks --list
    python -m benchmarks [SUBJECT …] [--out FOLDER] [--rounds N] [--tiny] [--device cuda]
    python -m benchmarks check [--out FOLDER]

Without a SUBJECT, all are measured. Each writes FOLDER/SUBJECT-DEVICE.json and a Markdown table after each round, and
continues them when it is called again. `check` holds the ratios in these files to benchmarks/bounds.json; exit code 1
means that one is broken. Measure on a machine that has nothing else to do.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import sys
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness.bounds import verdicts
from benchmarks.harness.case import Case, LeftOut, Options
from benchmarks.harness.environment import environment
from benchmarks.harness.runner import OtherMachine, Results, run_subject

FOLDER = Path(__file__).parent
CHECK = "check"


def subjects() -> dict[str, str]:
    """Return the title of each subject: the modules of this folder that define `cases`."""
    found = {}
    for file in sorted(FOLDER.glob("*.py")):
        tree = ast.parse(file.read_text())
        if any(isinstance(node, ast.FunctionDef) and node.name == "cases" for node in tree.body):
            found[file.stem] = (ast.get_docstring(tree) or file.stem).partition("\n")[0]
    return found


def measure(names: Iterable[str], arguments: argparse.Namespace) -> int:
    """Measure subjects one after the other. Return the exit code."""
    machine = environment(arguments.device)
    kind = arguments.device.partition(":")[0]
    succeeded = True
    for name in names:
        module: Any = importlib.import_module(f"benchmarks.{name}")
        file = arguments.out / f"{name}-{kind}{'-tiny' if arguments.tiny else ''}.json"
        with tempfile.TemporaryDirectory() as folder:
            options = Options(
                device=arguments.device,
                tiny=arguments.tiny,
                nanogpt=arguments.nanogpt,
                text=arguments.text,
                pythons=dict(arguments.python),
                folder=Path(folder),
            )
            results = Results(file, subjects()[name], machine, again=arguments.again)
            cases: Callable[[], Iterable[Case | LeftOut]] = partial(module.cases, options)
            succeeded &= run_subject(cases, results, partial(_report, name), arguments.rounds)
        print(f"{file}, {file.with_suffix('.md')}")
    return 0 if succeeded else 1


def _report(subject: str, text: str) -> None:
    print(f"{subject}: {text}", flush=True)


def check(folder: Path) -> int:
    """Print the verdict of each bound. Return the exit code."""
    found = list(verdicts(folder))
    for verdict in found:
        print(f"{verdict.status}: {verdict.text}")
    return 1 if any(verdict.status == "broken" for verdict in found) else 0


def _named_path(text: str) -> tuple[str, str]:
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"expected PEER=PATH, got {text!r}")
    return name, path


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subjects", nargs="*", metavar="SUBJECT", help="subjects to measure (default: all), or check")
    parser.add_argument("--list", action="store_true", help="print the subjects and exit")
    parser.add_argument("--out", type=Path, default=FOLDER / "results" / "harness", help="folder of the result files")
    parser.add_argument("--rounds", type=int, help="rounds of each case (default: each case has its own number)")
    parser.add_argument("--again", action="store_true", help="measure anew instead of continuing the results")
    parser.add_argument("--tiny", action="store_true", help="use tiny sizes, to try the benchmarks")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N")
    parser.add_argument("--nanogpt", type=Path, help="checkout of nanoGPT, with data/shakespeare_char prepared")
    parser.add_argument("--text", type=Path, help="text file for whole runs, such as tinyshakespeare.txt")
    parser.add_argument(
        "--python", type=_named_path, action="append", default=[], metavar="PEER=PATH",
        help="Python of an environment in which a peer is installed. Repeatable",
    )  # fmt: skip
    arguments = parser.parse_args()
    known = subjects()
    if arguments.list:
        print("\n".join(f"{name:16} {title}" for name, title in known.items()))
        return 0
    if arguments.rounds is not None and arguments.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {arguments.rounds}")
    if arguments.subjects == [CHECK]:
        return check(arguments.out)
    if unknown := [name for name in arguments.subjects if name not in known]:
        parser.error(f"no subject {unknown[0]!r}. Known: {', '.join(known)}, or {CHECK} alone")
    try:
        return measure(arguments.subjects or known, arguments)
    except OtherMachine as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
