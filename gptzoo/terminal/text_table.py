"""Tables that read well in 80 columns, and in a pipe with one row a line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Console, ConsoleOptions
from rich.text import Text

_GAP = "  "  # between columns
_INDENT = 4  # of the lines below the first one of a row
_MIN_WRAPPED_WIDTH = 40  # columns; text is not wrapped to less beside its row, but put below it
_PIPE_WIDTH = 100_000  # columns; lines of pipes and files are not wrapped


def plain_console(*, stderr: bool = False) -> Console:
    """Create a console without highlighting, as wide as the terminal, and without a limit in a pipe or file."""
    console = Console(stderr=stderr, highlight=False)
    return console if console.is_terminal else Console(stderr=stderr, highlight=False, width=_PIPE_WIDTH)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print texts as they are, one a line. In a terminal, they are wrapped between words."""
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)


def plain_table(*columns: str, header: bool = True, indent: int = 0) -> TextTable:
    """Create a table. A column whose name starts with ">" is right-aligned, for numbers.

    header: print the names of the columns above them.
    indent: number of spaces before each row.
    """
    return TextTable(columns, header=header, indent=indent)


class TextTable:
    """A table without lines, which a console of rich prints as wide as it is.

    In a pipe or file, every row is one line. In a terminal, a table that is too wide has the text of its last column
    wrapped, below the row if little space is left beside it. If that does not help, every row is a block: its first
    cell, and below it the other cells with the names of their columns.
    """

    def __init__(self, columns: Sequence[str], *, header: bool, indent: int):
        self.names = [column.removeprefix(">") for column in columns]
        self.is_number = [column.startswith(">") for column in columns]
        self.header = header and any(self.names)
        self.indent = indent
        self.rows: list[list[Text]] = []

    def add_row(self, *cells: str | Text) -> None:
        """Add a row. Only its last cell may have several lines."""
        self.rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        for line in self._lines(console, options.max_width - self.indent):
            line = Text.assemble(" " * self.indent, line)
            line.rstrip()
            line.no_wrap, line.overflow = True, "ignore"
            yield line

    def _lines(self, console: Console, width: int) -> Iterator[Text]:
        header = [Text(name, "bold") for name in self.names]
        if not self.rows:
            return
        rows = [*([header] if self.header else []), *self.rows]
        widths = [max(_width(row[index]) for row in rows) for index in range(len(self.names))]
        before_last = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        longest_rows = max(before_last + _width(row[-1]) for row in rows)
        if not console.is_terminal or longest_rows <= width:
            for row in rows:
                yield from self._aligned(row, widths, below=False)
        elif before_last <= width and not self.is_number[-1]:
            room = width - before_last
            below = room < min(_MIN_WRAPPED_WIDTH, widths[-1])
            for row in rows:
                wrapped = _wrapped(row[-1], console, width - _INDENT if below else room)
                yield from self._aligned([*row[:-1], wrapped], widths, below=below)
        else:
            for row in self.rows:
                yield from self._block(row, console, width)

    def _aligned(self, row: Sequence[Text], widths: Sequence[int], *, below: bool) -> Iterator[Text]:
        """Yield the lines of a row. Lines of its last cell continue in its column, or `below` the row."""
        *cells, last = (
            _padded(cell, width, left=is_number)
            for cell, width, is_number in zip(row, widths, self.is_number, strict=True)
        )
        if not self.is_number[-1]:
            last = row[-1]
        first, *others = list(last.split("\n", allow_blank=True)) or [Text("")]
        start = Text(_GAP).join([*cells, Text("")]) if cells else Text("")
        if below:
            yield start
            if last.plain:
                yield from (Text.assemble(" " * _INDENT, line) for line in [first, *others])
            return
        yield Text.assemble(start, first)
        yield from (Text.assemble(" " * len(start.plain), line) for line in others)

    def _block(self, row: Sequence[Text], console: Console, width: int) -> Iterator[Text]:
        """Yield a row as a block: its first cell, and the others with the names of their columns."""
        yield from row[0].wrap(console, width)
        items = [
            Text.assemble((f"{name}: ", "dim"), cell) if name else cell
            for name, cell in zip(self.names[1:], row[1:], strict=True)
            if cell.plain
        ]
        for line in _packed(items, width - _INDENT):
            for part in line.split("\n", allow_blank=True):
                yield from (Text.assemble(" " * _INDENT, wrapped) for wrapped in part.wrap(console, width - _INDENT))


def _packed(items: Sequence[Text], width: int) -> list[Text]:
    """Return lines with as many items each as fit."""
    lines: list[Text] = []
    for item in items:
        if lines and _width(lines[-1]) + len(_GAP) + _width(item) <= width:
            lines[-1] = Text(_GAP).join([lines[-1], item])
        else:
            lines.append(item)
    return lines


def _padded(text: Text, width: int, *, left: bool) -> Text:
    """Return a text with spaces up to a width, on its left or right."""
    spaces = " " * (width - _width(text))
    return Text.assemble(spaces, text) if left else Text.assemble(text, spaces)


def _width(text: Text) -> int:
    """Return the width of the longest line of a text, in columns."""
    return max((line.cell_len for line in text.split("\n", allow_blank=True)), default=0)


def _wrapped(text: Text, console: Console, width: int) -> Text:
    """Return a text with line breaks, so that no line is wider than `width`."""
    lines = [wrapped for line in text.split("\n", allow_blank=True) for wrapped in line.wrap(console, width)]
    for line in lines:
        line.rstrip()
    return Text("\n").join(lines)
