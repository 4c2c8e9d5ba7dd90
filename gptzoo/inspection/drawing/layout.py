"""The places of boxes, lines and texts in a drawing, in pixels from the top left corner."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from gptzoo.inspection.data_flow import continues_on_spine, lay_out_rails
from gptzoo.inspection.drawing.items import Box, Content, Frame

MARGIN = 16
LINE = 18  # height of a line of text
_TITLE = 24  # height of the title of a box
_GAP = 24  # between boxes, with room for a rail that begins there
_BOX_WIDTH = 350
_RAIL = 18  # distance between rails
_INSET = 14  # from a frame to what is in it
_RADIUS = 10  # of the circle of an operation
_CORNER = 7  # radius of the corners of rails

TextStyle = Literal["name", "title", "note", "label"]


@dataclass(frozen=True)
class Text:
    """A line of text that starts at x, or ends there, with its baseline at y."""

    x: float
    y: float
    text: str
    style: TextStyle
    ends_at_x: bool = False
    is_changed: bool = False


@dataclass(frozen=True)
class Rectangle:
    """A box or a frame."""

    x: float
    y: float
    width: float
    height: float
    style: str  # kind of the box, or "frame"
    is_changed: bool = False


@dataclass(frozen=True)
class Circle:
    """An operation without notes, such as an addition."""

    x: float
    y: float
    radius: float
    is_changed: bool = False


@dataclass(frozen=True)
class Line:
    """A line along the values of SVG's path syntax, with an arrow at its end if it has a head."""

    path: str
    has_head: bool = False


@dataclass
class Scene:
    """A drawing with all places. Shapes are drawn in their order, so later ones lie over earlier ones."""

    width: float
    height: float = 0
    shapes: list[Text | Rectangle | Circle | Line] = field(default_factory=list)


def lay_out(content: Content) -> Scene:
    """Give everything in a drawing its place."""
    return _Layout(content).scene


class _Layout:
    def __init__(self, content: Content):
        self.content = content
        frames = [item for item in content.items if isinstance(item, Frame)]
        rails = [rail.column + 1 for frame in frames for rail in lay_out_rails(frame.operations)]
        self.left = MARGIN + _INSET + max(rails, default=0) * _RAIL + 6  # of boxes
        self.spine = self.left + _BOX_WIDTH / 2
        self.right = self.left + _BOX_WIDTH + _INSET  # of frames
        self.scene = Scene(self.right + MARGIN)
        self.y: float = MARGIN
        self.header()
        self.stack()
        self.footer()
        self.scene.height = self.y + MARGIN - 6

    def text(self, x: float, y: float, text: str, style: TextStyle, changed: frozenset[str], **options: bool) -> None:
        self.scene.shapes.append(Text(x, y, text, style, is_changed=text in changed, **options))

    def header(self) -> None:
        self.y += 18
        self.text(MARGIN, self.y, self.content.name, "name", frozenset())
        for line in self.content.sizes:
            self.y += LINE
            self.text(MARGIN, self.y, line, "note", self.content.changed)
        self.y += 12

    def stack(self) -> None:
        self.stream_label("tokens", "(B, T)")
        for index, item in enumerate(self.content.items):
            self.connect()
            if isinstance(item, Box):
                self.box(item)
            else:
                if index:
                    self.text(self.spine + 8, self.y - 7, self.content.stream, "label", self.content.changed)
                self.frame(item)
        self.connect(has_head=True)
        self.stream_label("logits", self.content.logits)

    def footer(self) -> None:
        self.y += 14
        for line in self.content.costs:
            self.text(MARGIN, self.y + 4, line, "note", self.content.changed)
            self.y += LINE

    def stream_label(self, name: str, shape: str) -> None:
        self.y += LINE
        self.text(self.spine - 6, self.y - 4, name, "title", frozenset(), ends_at_x=True)
        self.text(self.spine + 8, self.y - 4, shape, "label", self.content.changed)

    def connect(self, *, has_head: bool = False) -> None:
        """Draw the spine over a gap, from the bottom of one box to the top of the next."""
        self.scene.shapes.append(Line(f"M{self.spine:g} {self.y:g}v{_GAP:g}", has_head))
        self.y += _GAP

    def box(self, box: Box) -> None:
        """Draw a box at the current height, and go on to its bottom."""
        is_changed = bool(box.changed) or box.is_new
        if box.kind == "operation":
            center = self.y + _RADIUS
            self.scene.shapes.append(Circle(self.spine, center, _RADIUS, is_changed))
            if box.name.startswith("add "):
                cross = f"M{self.spine - 5:g} {center:g}h10M{self.spine:g} {center - 5:g}v10"
                self.scene.shapes.append(Line(cross))
            else:
                self.text(self.spine + 18, center + 4, box.title, "label", box.changed)
            self.y += 2 * _RADIUS
            return
        height = _TITLE + 6 + LINE * len(box.notes)
        self.scene.shapes.append(Rectangle(self.left, self.y, _BOX_WIDTH, height, box.kind, is_changed))
        self.text(self.left + 12, self.y + 19, box.title, "title", box.changed)
        for number, note in enumerate(box.notes, 1):
            self.text(self.left + 12, self.y + 17 + LINE * number, note, "note", box.changed)
        self.y += height

    def frame(self, frame: Frame) -> None:
        """Draw the blocks of a frame: its boxes on the spine, and the rails beside them."""
        top = self.y
        place = len(self.scene.shapes)
        self.y += 12 + LINE * len(frame.norm)
        self.scene.shapes.append(Line(f"M{self.spine:g} {top:g}V{self.y:g}"))
        self.text(MARGIN + 12, top + 20, frame.title, "title", frame.changed)
        for number, line in enumerate(frame.norm, 1):
            self.text(self.spine + 10, top + 2 + LINE * number, line, "label", frame.changed)
        bottoms, middles = {-1: self.y - 4}, {}
        for index, box in enumerate(frame.boxes):
            if continues_on_spine(frame.operations, index - 1):
                self.connect()
            else:
                self.y += _GAP
            start = self.y
            self.box(box)
            bottoms[index], middles[index] = self.y, (start + self.y) / 2
        self.scene.shapes += self.rails(frame, bottoms, middles)
        self.scene.shapes.append(Line(f"M{self.spine:g} {self.y:g}v14"))
        self.y += 14
        height = self.y - top
        outline = Rectangle(MARGIN, top, self.right - MARGIN, height, "frame", bool(frame.changed))
        self.scene.shapes.insert(place, outline)  # below what is in it

    def rails(self, frame: Frame, bottoms: dict[int, float], middles: dict[int, float]) -> Iterator[Line]:
        for rail in lay_out_rails(frame.operations):
            x = self.left - 6 - (rail.column + 0.5) * _RAIL
            y = bottoms[rail.source] + 9
            if rail.source >= 0:
                yield Line(f"M{self.spine:g} {bottoms[rail.source]:g}V{y:g}")
            for target in rail.targets:
                is_circle = frame.boxes[target].kind == "operation"
                end = self.spine - _RADIUS if is_circle else self.left
                yield Line(_rail_path(self.spine, y, x, middles[target], end), has_head=True)


def _rail_path(start: float, top: float, x: float, bottom: float, end: float) -> str:
    """Return a path from the spine to a rail at x, down, and back to a box, with round corners."""
    r = _CORNER
    return (
        f"M{start:g} {top:g}H{x + r:g}Q{x:g} {top:g} {x:g} {top + r:g}"
        f"V{bottom - r:g}Q{x:g} {bottom:g} {x + r:g} {bottom:g}H{end:g}"
    )
