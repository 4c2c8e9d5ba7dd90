"""Peak memory of `gptzoo prepare` for one text file, by its size.

    python benchmarks/prepare_memory.py --megabytes 2 8 32 --out benchmarks/results/prepare-memory-cpu.json

Each measurement is a process of its own with one worker. The text is random words with punctuation and line ends;
`unbroken` is a text without spaces and line ends, which cannot be read in parts.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

MEASURE = """
import json, resource, sys
from gptzoo.data.prepare import prepare
from gptzoo.reference import Reference

corpus = Reference("corpus").validate({"type": "text", "path": sys.argv[1]}).build()
_, store = prepare(corpus, Reference("tokenizer").validate(sys.argv[2]))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"peak_bytes": peak, "tokens": len(store.train) + len(store.val)}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, nargs="+", default=[2.0, 8.0, 32.0])
    parser.add_argument("--tokenizers", nargs="+", default=["byte", "char", "bpe"])
    parser.add_argument(
        "--unbroken", type=float, nargs="*", default=[1.0, 2.0], help="Sizes of a text without borders."
    )
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for kind, sizes in (("words", options.megabytes), ("unbroken", options.unbroken)):
            for size in sizes:
                file = Path(folder) / f"{kind}-{size}.txt"
                write_text(file, int(size * 1e6), unbroken=kind == "unbroken")
                for tokenizer in options.tokenizers if kind == "words" else ["bpe"]:
                    row = {"text": kind, "megabytes": size, "tokenizer": tokenizer, **measure(file, tokenizer, folder)}
                    print(json.dumps(row), flush=True)
                    results.append(row)
    if options.out is not None:
        options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def write_text(file: Path, n_bytes: int, *, unbroken: bool) -> None:
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnop", k=rng.randrange(1, 10))) for _ in range(5000)]
    with open(file, "w", encoding="utf-8") as out:
        n_written = 0
        while n_written < n_bytes:
            line = rng.choices(words, k=12)
            n_written += out.write("".join(line) if unbroken else " ".join(line) + ".\n")


def measure(file: Path, tokenizer: str, folder: str) -> dict[str, int]:
    environment = {**os.environ, "GPTZOO_CACHE": str(Path(folder) / f"cache-{file.stem}-{tokenizer}")}
    command = [sys.executable, "-W", "ignore", "-c", MEASURE, str(file), tokenizer]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    result: dict[str, int] = json.loads(output)
    return result


if __name__ == "__main__":
    main()
