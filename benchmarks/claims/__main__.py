"""The command `python -m benchmarks.claims`: list the claims, run the ablations that test them, and write the page."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # one core per trial; the last digits of the losses depend on it

PAGE = Path(__file__).parents[2] / "docs" / "claims.md"


def main(arguments: list[str] | None = None) -> int:
    """Run one of the subcommands and return its exit code."""
    from benchmarks.claims.catalog import read_catalog, statements_by_ablation
    from benchmarks.claims.page import render
    from benchmarks.claims.run import RESULTS, run
    from benchmarks.claims.verdicts import changed_since_run, judge, read_results, verdict_on
    from gptzoo.errors import GptzooError

    entries, results = read_catalog(), read_results(RESULTS)
    by_ablation = statements_by_ablation(entries)
    options = parse(arguments, list(by_ablation))
    if options.command == "run":
        for name in options.ablations or [name for name in by_ablation if name not in results]:
            try:
                file = run(name, by_ablation[name], options.out / name, retry_failed=options.retry_failed)
                print(file, flush=True)
            except GptzooError as error:
                print(error, file=sys.stderr)
                return error.exit_code
        return 0
    if changed := changed_since_run(entries, results):
        print(
            f"these results belong to other statements or specs; run them again: {', '.join(changed)}", file=sys.stderr
        )
        return 1
    if options.command == "page":
        PAGE.write_text(render(entries, results), encoding="utf-8")
        return 0
    judgements = judge(entries, results)
    for entry in entries:
        used = ", ".join(dict.fromkeys(statement.ablation for statement in entry.statements))
        print(f"{entry.component:32} {verdict_on(entry, judgements):20} {used}")
    return 0


def parse(arguments: list[str] | None, ablations: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.claims", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="run ablations, and write their results")
    running.add_argument(
        "ablations", nargs="*", metavar="NAME", help="names of ablations (default: those without a result)"
    )
    running.add_argument(
        "--out", type=Path, default=Path("runs/claims"), help="folder for the runs (default: runs/claims)"
    )
    running.add_argument("--retry-failed", action="store_true", help="run trials again that have failed")
    commands.add_parser("page", help="write docs/claims.md from the results")
    commands.add_parser("list", help="print the verdict on each claim")
    options = parser.parse_args(arguments)
    if options.command == "run" and (unknown := sorted({*options.ablations} - {*ablations})):
        parser.error(f"no ablation {unknown[0]!r} in the catalog (known: {', '.join(ablations)})")
    return options


if __name__ == "__main__":
    sys.exit(main())
