"""Tables in terminals of several widths, and in pipes."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.text import Text

from gptzoo.terminal.text_table import TextTable, plain_console, plain_table, print_lines

NOTE = "the baseline; the learning rate is being tuned over five values"


def variants() -> TextTable:
    table = plain_table("variant", ">parameters", "note")
    table.add_row("adamw", "120,640", NOTE)
    table.add_row(Text("sgd", "bold"), "7", "")
    return table


def printed(table: TextTable, width: int, *, terminal: bool = True) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=terminal, color_system=None, width=width, highlight=False)
    console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_a_table_that_fits_has_aligned_columns() -> None:
    assert printed(variants(), 100) == [
        "variant  parameters  note",
        f"adamw       120,640  {NOTE}",
        "sgd               7",
    ]


def test_text_is_wrapped_in_its_column_where_there_is_enough_space() -> None:
    assert printed(variants(), 64) == [
        "variant  parameters  note",
        "adamw       120,640  the baseline; the learning rate is being",
        "                     tuned over five values",
        "sgd               7",
    ]


def test_text_is_below_its_row_where_there_is_little_space() -> None:
    assert printed(variants(), 40) == [
        "variant  parameters",
        "    note",
        "adamw       120,640",
        "    the baseline; the learning rate is",
        "    being tuned over five values",
        "sgd               7",
    ]


def test_rows_are_blocks_where_not_even_the_numbers_fit() -> None:
    table = plain_table("variant", ">parameters", ">seconds per step")
    table.add_row("adamw", "120,640", "0.123")
    assert printed(table, 24) == ["adamw", "    parameters: 120,640", "    seconds per step:", "    0.123"]


@pytest.mark.parametrize("width", [20, 24, 40, 64, 80])
def test_no_line_is_wider_than_the_terminal_and_nothing_is_lost(width: int) -> None:
    lines = printed(variants(), width)
    assert max(map(len, lines)) <= width
    words = " ".join(lines).split()
    assert [word for word in ("adamw", "120,640", "sgd", "7", *NOTE.split()) if word not in words] == []


def test_in_a_pipe_every_row_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    long = plain_table("name", "text", header=False, indent=2)
    long.add_row("a", "word " * 100)
    console = plain_console()
    console.print(long)
    print_lines(console, ["a sentence " * 30])
    assert capsys.readouterr().out.splitlines() == [f"  a  {('word ' * 100).strip()}", "a sentence " * 30]


def test_markup_and_emoji_codes_are_text() -> None:
    table = plain_table("")
    table.add_row("[bold]model:rope:[/bold]")
    assert printed(table, 80) == ["[bold]model:rope:[/bold]"]


def test_a_cell_of_several_lines_continues_in_its_column() -> None:
    table = plain_table("name", "text", header=False)
    table.add_row("a", "first\nsecond")
    assert printed(table, 80) == ["a  first", "   second"]


def test_a_table_without_rows_prints_nothing() -> None:
    assert printed(plain_table("name", "text"), 80) == []
