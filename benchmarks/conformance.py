"""Random cases of the conformance kit for every part of a model that is registered. The run can be interrupted.

    python benchmarks/conformance.py --draws 1000 --out benchmarks/results/conformance.json

The random cases of sizes and options of a component are spread over the properties that are checked beyond toy sizes.
The output file has the verdict of each property, and a run continues where it ended. Exit code 1 means that a component
failed.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import replace
from pathlib import Path

from gptzoo import registry
from gptzoo.testing.at_size.effort import SLOW
from gptzoo.testing.component_under_test import MODEL_KINDS
from gptzoo.testing.properties.catalog import properties_of
from gptzoo.testing.runner import check_property, find_component, put_under_test
from gptzoo.utils.atomic import write_json

MAX_LENGTH = 260


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=1000, help="Random cases of each component (default: 1000).")
    parser.add_argument("--out", type=Path, help="JSON file of the results. An existing one is continued.")
    parser.add_argument("--list", action="store_true", help="Print the components and exit.")
    parser.add_argument("--only", nargs="*", default=[], help="Components as KIND:TYPE (default: all).")
    arguments = parser.parse_args()
    known = registry.current()
    labels = [f"{kind}:{name}" for kind in MODEL_KINDS for name in known.of_kind(kind)]
    if arguments.list:
        print(*labels, sep="\n")
        return
    if arguments.out is None:
        parser.error("--out FILE is required")
    results = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for label in arguments.only or labels:
        properties = [prop for prop in properties_of(label.partition(":")[0]) if prop.at_size is not None]
        n_draws = math.ceil(arguments.draws / sum(prop.at_size.sizes.share for prop in properties))
        for prop in properties:
            done = results.setdefault(label, {}).get(prop.name, {})
            if done.get("draws_per_share") == n_draws and done.get("outcome") != "failed":
                continue
            effort = replace(SLOW, n_planned=0, n_random=n_draws, max_length=MAX_LENGTH)
            start = time.process_time()
            verdict = check_property(prop, put_under_test(find_component(label), {}), effort)
            results[label][prop.name] = {
                "draws_per_share": n_draws,
                "draws": math.ceil(n_draws * prop.at_size.sizes.share),
                "outcome": verdict.outcome,
                "text": verdict.text,
                "cpu_seconds": round(time.process_time() - start, 1),
            }
            write_json(arguments.out, results)
            if verdict.outcome == "failed":
                print(f"{label} {verdict}", flush=True)
        print(f"{label}: {sum(row['draws'] for row in results[label].values())} cases", flush=True)
    if any(row["outcome"] == "failed" for rows in results.values() for row in rows.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
