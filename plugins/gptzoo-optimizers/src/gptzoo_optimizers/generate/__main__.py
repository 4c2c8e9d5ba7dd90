"""Generate the committed files: `python -m gptzoo_optimizers.generate [--page FILE] [NAME …]`.

For each optimizer of the installed libraries, or for those named, it reads the signature, finds the bounds of its
options by trying values, and runs the conformance check. The result replaces the entry in `signatures/`. All of them
take about an hour on one core; a run that was stopped continues with `--missing`. `--page` writes the page.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

from gptzoo_optimizers.catalog import FOLDER, LIBRARIES, LibraryTable, format_table, read_table, tables
from gptzoo_optimizers.generate.checking import check
from gptzoo_optimizers.generate.inspecting import classes_of, inspect_optimizer, version_of
from gptzoo_optimizers.generate.page import render_page
from gptzoo_optimizers.generate.probing import accepts, with_bounds
from gptzoo_optimizers.generate.refusals import REFUSALS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a library, or an optimizer as in specs")
    parser.add_argument("--missing", action="store_true", help="only optimizers without an entry")
    parser.add_argument("--page", type=Path, metavar="FILE", help="write the page only")
    arguments = parser.parse_args()
    if arguments.page is not None:
        arguments.page.write_text(render_page(tables()), encoding="utf-8")
        return
    for library in LIBRARIES:
        table = _read_or_empty(library)
        for name, cls in classes_of(library).items():
            is_known = name in table.signatures or name in table.left_out
            if (arguments.missing and is_known) or not {name, library}.intersection(arguments.names or [name]):
                continue
            table = _with_entry(table, name, cls)
            (FOLDER / f"{library}.json").write_text(format_table(table), encoding="utf-8")
            print(f"{name}: {table.left_out.get(name, 'registered')}", flush=True)


def _read_or_empty(library: str) -> LibraryTable:
    version = version_of(library)
    if not (FOLDER / f"{library}.json").is_file():
        return LibraryTable(library, version, {}, {})
    return dataclasses.replace(read_table(library), version=version)


def _with_entry(table: LibraryTable, name: str, cls: type) -> LibraryTable:
    """Return the table with a new entry for one optimizer."""
    signatures = {other: signature for other, signature in table.signatures.items() if other != name}
    left_out = {other: reason for other, reason in table.left_out.items() if other != name}
    if name in REFUSALS:
        left_out[name] = REFUSALS[name]
    else:
        signature = inspect_optimizer(name, cls)
        signature, reason = check(with_bounds(signature) if accepts(signature, {}) else signature)
        if reason is None:
            signatures[name] = signature
        else:
            left_out[name] = reason
    return dataclasses.replace(table, signatures=signatures, left_out=left_out)


if __name__ == "__main__":
    main()
