"""The command line as a whole: help, completion, and errors that are not specific to a command."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from gptzoo.cli import main
from gptzoo.cli.examples import EXAMPLES
from gptzoo.shipped_specs import spec_path

ROOT = Path(__file__).parents[2]
TINY = ROOT / "configs" / "models" / "tiny.json"


def test_an_ascii_terminal_does_not_break_a_command() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "gptzoo", "build", str(TINY)], capture_output=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert b"1,498,880 parameters" in done.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_reported_in_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "gptzoo", "schema", "model"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 2
    *activities, error = done.stderr.decode().splitlines()
    assert error == "the output: cannot be written: No space left on device"
    assert all(line.startswith("loading PyTorch: ") for line in activities)  # on a busy machine


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["eject", str(TINY), "FOLDER/file/model.py"], marks=pytest.mark.slow),
        pytest.param(["eject", str(TINY), "FOLDER/missing/model.py"], marks=pytest.mark.slow),
        ["draw", str(TINY), "--out", "FOLDER/file/model.svg"],
        ["build", str(TINY), "--out", "FOLDER/file/model"],
        ["train", str(ROOT / "configs/runs/quickstart.json"), "--out", "FOLDER/file/run"],
        ["new-plugin", "mine", "--kind", "activation", "--out", "FOLDER/file"],
        ["reference", "--out", "FOLDER/file"],
    ],
    ids=lambda command: f"{command[0]} to {command[-1]}",
)
def test_a_path_that_cannot_be_written_is_an_error(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    done = CliRunner().invoke(main, [argument.replace("FOLDER", str(tmp_path)) for argument in command])
    assert done.exit_code == 2, done.output
    assert str(tmp_path) in done.stderr
    assert "incomplete" not in done.stderr
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 745. GiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_out_of_memory_error_says_what_to_reduce(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out_of_memory(*_: object) -> None:
        raise error

    monkeypatch.setattr("gptzoo.cli.inputs.read_spec", run_out_of_memory)
    done = CliRunner().invoke(main, ["build", str(TINY)])
    assert done.exit_code == 2
    assert done.stderr.startswith(f"out of memory: {error}; try a smaller micro_batch_size")


def test_other_errors_of_torch_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr("gptzoo.cli.inputs.read_spec", fail)
    done = CliRunner().invoke(main, ["build", str(TINY)])
    assert isinstance(done.exception, RuntimeError)


GROUPS = {(): main} | {(name,): group for name, group in main.commands.items() if isinstance(group, click.Group)}


@pytest.mark.parametrize("path", GROUPS, ids=" ".join)
def test_help_lists_every_command_with_its_full_first_sentence(path: tuple[str, ...]) -> None:
    help_text = CliRunner().invoke(main, [*path, "--help"], terminal_width=80).stdout
    assert "..." not in help_text.partition("\n")[2]
    for name, command in GROUPS[path].commands.items():
        assert (f"\n  {name} " in help_text) is not command.hidden
        if command.hidden:
            continue
        assert " ".join(command.get_short_help_str(200).split()[-2:]) in " ".join(help_text.split())


def test_each_device_option_names_all_devices() -> None:
    options = {
        (name, option.name): option.help
        for name in main.commands
        for option in main.commands[name].params
        if isinstance(option, click.Option) and "--device" in option.opts
    }
    assert {"train", "profile", "sample", "eval"} <= {name for name, _ in options}
    for text in options.values():
        assert text is not None
        assert text.startswith("Device: auto, cpu, cuda, cuda:N or mps")


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_in_the_help_are_valid_commands(name: str) -> None:
    shown = CliRunner().invoke(main, [name, "--help"]).stdout
    for example in EXAMPLES[name]:
        assert f"  {example}\n" in shown
        program, first, *words = shlex.split(example.partition(" > ")[0])
        assert (program, first) == ("gptzoo", name)
        for configuration in (word for word in words if word.startswith("@")):
            assert spec_path(configuration).is_file()
        command = main.commands[name]
        if isinstance(command, click.Group):
            command = command.commands[words.pop(0) if words[0] in command.commands else "run"]
        assert command.make_parser(click.Context(command, **command.context_settings)).parse_args(list(words))


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("gptzoo sam", "sample"),
        ("gptzoo components att", "attention"),
        ("gptzoo components attention sd", "sdpa"),
        ("gptzoo new-plugin mine --kind norm_", "norm_layer"),
    ],
)
def test_shell_completion_of_commands_kinds_and_components(words: str, completed: str) -> None:
    environment = {"_GPTZOO_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    done = subprocess.run(
        [sys.executable, "-c", "from gptzoo.cli import main; main(prog_name='gptzoo')"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, **environment},
    )
    assert done.stdout.splitlines() == [f"plain,{completed}"]
