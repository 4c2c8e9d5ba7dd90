"""The registered optimizers: no library is imported, options have bounds, and others have a reason to be left out."""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from typing import Any

import gptzoo_optimizers
import pytest
from gptzoo_optimizers.catalog import FOLDER, LIBRARIES, tables

import gptzoo
from gptzoo.testing import check

NAMES = sorted(name for table in tables() for name in table.signatures)
LEFT_OUT = {name: reason for table in tables() for name, reason in table.left_out.items()}
FRAGMENT = re.compile(r"(the )?(whether|what|how|of|which|where|if)\b", re.IGNORECASE)


def run_spec(optimizer: Any) -> dict[str, Any]:
    model = {"context_length": 16, "d_model": 16, "n_layers": 1, "n_heads": 2, "vocab_size": 11}
    return {"model": model, "corpus": "stories", "batch_size": 4, "steps": 2, "optimizer": optimizer}


def test_the_installed_package_registers_every_optimizer_of_the_tables() -> None:
    (entry,) = importlib.metadata.entry_points(group="gptzoo", name="optimizers")
    assert entry.load() is gptzoo_optimizers
    registered = {name for name in gptzoo.registered("optimizer") if name.partition(".")[0] in LIBRARIES}
    assert registered == set(NAMES)
    assert len(NAMES) > 100


def test_commands_about_optimizers_do_not_import_the_libraries() -> None:
    code = (
        "import sys\nfrom gptzoo.cli import main\n"
        "for command in (['--help'], ['components', 'optimizer', 'schedulefree.adamw', '--json']):\n"
        "    main(command, standalone_mode=False)\n"
        f"loaded = [name for name in {LIBRARIES!r} if name in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_an_option_outside_of_its_bounds_is_an_error_with_its_location() -> None:
    spec = run_spec({"type": "pytorch_optimizer.adan", "betas": [0.98, 0.92, 1.0]})
    with pytest.raises(gptzoo.SpecError, match=r"\$\.optimizer\.betas\[2\].*less than 1"):
        gptzoo.load_run_spec(spec)


def test_an_unknown_option_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(gptzoo.SpecError, match="did you mean 'eps'"):
        gptzoo.load_run_spec(run_spec({"type": "pytorch_optimizer.adan", "ep": 1e-8}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("pytorch_optimizer.lbfgs", "closure"),
        ("pytorch_optimizer.adahessian", "second derivatives"),
        ("heavyball.samwrapper", "closure"),
        ("pytorch_optimizer.adamw", "gptzoo's own optimizer 'adamw'"),
    ],
)
def test_the_error_for_an_optimizer_that_is_left_out_says_why(name: str, reason: str) -> None:
    with pytest.raises(gptzoo.SpecError, match=rf"\$\.optimizer.*is left out of gptzoo-optimizers.*{reason}"):
        gptzoo.load_run_spec(run_spec(name))


def test_the_error_says_why_on_the_command_line_and_in_check() -> None:
    with pytest.raises(gptzoo.InputError, match="left out of gptzoo-optimizers"):
        check("optimizer:pytorch_optimizer.lomo")


def test_every_text_can_be_read_alone() -> None:
    for table in tables():
        for name, signature in table.signatures.items():
            texts = {option: data.description for option, data in signature.options.items()}
            for option, text in {**texts, "summary": signature.summary}.items():
                assert text.endswith("."), (name, option)
                assert len(text.split()) >= 3, (name, option, text)
                assert not FRAGMENT.match(text), (name, option, text)


def test_every_optimizer_of_the_libraries_has_an_entry_and_a_reason_if_it_is_left_out() -> None:
    assert not set(NAMES) & set(LEFT_OUT)
    assert all(len(reason.split()) > 5 and not reason.endswith(".") for reason in LEFT_OUT.values())


def test_the_tables_are_small() -> None:
    assert sum((FOLDER / f"{library}.json").stat().st_size for library in LIBRARIES) < 100_000


def test_the_schema_of_a_run_lists_every_optimizer() -> None:
    schema = json.dumps(gptzoo.registered("optimizer")["schedulefree.adamw"].Config.model_json_schema())
    assert '"const": "schedulefree.adamw"' in schema
