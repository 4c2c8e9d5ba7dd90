"""The commands of `benchmarks/gpu.sh`: run parts with a time limit, and write the results after each of them."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from correctness import PARTS as CORRECTNESS
from parts import Machine, run_parts
from speed import PARTS as SPEED

COMMANDS = {"correctness": (CORRECTNESS, 7.0), "speed": (SPEED, 5.5)}  # parts and minutes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=COMMANDS)
    parser.add_argument(
        "--out", type=Path, help="result file (default: gpu-COMMAND.json in $OUT or the results folder)"
    )
    parser.add_argument(
        "--minutes", type=float, help="time limit of all parts (default: 7 for correctness, 5.5 for speed)"
    )
    parser.add_argument("--parts", nargs="+", metavar="NAME", help="parts to run (default: all)")
    parser.add_argument("--again", action="store_true", help="repeat parts that have results")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda", help="cpu: tiny shapes, to try the parts")
    arguments = parser.parse_args()
    parts, minutes = COMMANDS[arguments.command]
    unknown = set(arguments.parts or ()) - {part.name for part in parts}
    if unknown:
        parser.error(f"unknown parts: {', '.join(sorted(unknown))}. Choose from: {', '.join(p.name for p in parts)}")
    machine = Machine(arguments.device)
    out = arguments.out or machine.results_folder() / f"gpu-{arguments.command}.json"
    deadline = time.monotonic() + 60 * (minutes if arguments.minutes is None else arguments.minutes)
    selected = [part for part in parts if not arguments.parts or part.name in arguments.parts]
    sys.exit(0 if run_parts(selected, machine, out, deadline, again=arguments.again) else 1)


if __name__ == "__main__":
    main()
