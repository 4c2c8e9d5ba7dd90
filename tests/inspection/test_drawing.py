"""Drawings of models as SVG and HTML."""

from __future__ import annotations

import itertools
import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner
from support import small

import gptzoo
from gptzoo.cli import main
from gptzoo.inspection.drawing.drawing import draw
from gptzoo.inspection.drawing.items import Frame, content_of, mark_differences
from gptzoo.inspection.drawing.layout import Rectangle, Text, lay_out
from gptzoo.model.accounting import model_costs

SVG = "{http://www.w3.org/2000/svg}"
CHARACTER_WIDTH = 7.3  # pixels of the widest fonts for notes


def texts(svg: str, *, changed: bool = False) -> list[str]:
    """Return the texts of an image, or those that are marked as changed."""
    elements = ElementTree.fromstring(svg).iter(f"{SVG}text")
    return [e.text or "" for e in elements if not changed or "gz-changed" in e.attrib["class"]]


def marked_boxes(svg: str) -> int:
    return sum("gz-changed" in e.attrib["class"] for e in ElementTree.fromstring(svg).iter(f"{SVG}rect"))


def test_everything_has_room(any_spec: dict[str, Any]) -> None:
    """No text leaves its box, no text leaves the image, and boxes do not overlap."""
    scene = lay_out(content_of(gptzoo.load_model_spec(any_spec)))
    boxes = [s for s in scene.shapes if isinstance(s, Rectangle) and s.style != "frame"]
    for first, second in itertools.combinations(boxes, 2):
        assert first.y + first.height < second.y
    for text in (s for s in scene.shapes if isinstance(s, Text)):
        width = CHARACTER_WIDTH * len(text.text)
        assert (text.x - width if text.ends_at_x else 0) >= 0
        assert text.ends_at_x or text.x + width <= scene.width
        assert text.y < scene.height
        for box in boxes:
            if box.y < text.y < box.y + box.height:
                assert text.x + width <= box.x + box.width


def test_the_image_shows_every_part_with_its_options_and_shapes() -> None:
    spec = small(attention={"type": "sdpa", "n_kv_heads": 2, "window": 5}, positional="rope", norm="post_ln", ffn="glu")
    shown = texts(draw(spec).svg())
    for text in ("attention · sdpa", "ffn · glu", "norm post_ln", "rotates queries and keys"):
        assert any(text in line for line in shown), text
    assert any("n_kv_heads 2 · window 5" in line for line in shown)
    costs = model_costs(gptzoo.load_model_spec(spec))
    assert f"{costs.parameters.total:,} parameters" in shown
    model = gptzoo.build(spec, device="meta")
    n_parameters = sum(p.numel() for p in model.blocks[0].attention.parameters())
    assert f"{n_parameters:,} parameters" in shown


def test_options_that_differ_between_layers_are_listed() -> None:
    spec = small(n_layers=3, attention=["sdpa", {"type": "sdpa", "window": 4}, "sdpa"])
    shown = texts(draw(spec).svg())
    assert "layer 1: window 4" in shown
    assert any("layers 0, 2:" in line for line in shown)


def test_equal_models_have_no_marks() -> None:
    svg = draw(small(), small(name="other")).svg()
    assert marked_boxes(svg) == 0
    assert texts(svg, changed=True) == []


def test_boxes_of_the_same_name_in_several_frames_are_compared_frame_by_frame() -> None:
    content = content_of(gptzoo.load_model_spec(small()))
    *before, frame = content.items[: 1 + next(i for i, item in enumerate(content.items) if isinstance(item, Frame))]
    assert isinstance(frame, Frame)
    other = replace(frame, boxes=tuple(replace(box, title=f"another {box.title}") for box in frame.boxes))
    twice = replace(content, items=(*before, frame, *before, other))
    for marked in mark_differences(twice, twice):
        assert marked == twice
    first, _ = mark_differences(twice, replace(twice, items=(*before, other, *before, frame)))
    assert all(box.changed for item in first.items if isinstance(item, Frame) for box in item.boxes)


def test_differences_are_marked_on_both_sides() -> None:
    svg = draw(small(attention="naive"), small(attention="sdpa", ffn="glu")).svg()
    changed = texts(svg, changed=True)
    assert {"attention · naive", "attention · sdpa", "ffn · mlp", "ffn · glu"} <= set(changed)
    assert not any(text.startswith("norm") for text in changed)
    assert marked_boxes(svg) == 4


def test_a_part_without_a_counterpart_is_marked() -> None:
    svg = draw(small(positional="none"), small(positional="learned")).svg()
    assert marked_boxes(svg) >= 1
    assert marked_boxes(draw(small(positional="none")).svg()) == 0


def test_names_are_escaped(tmp_path: Path) -> None:
    name = "<script>alert('x')</script> & more"
    drawing = draw(small(name=name))
    assert name in texts(drawing.svg())
    assert "<script>" not in drawing.html()


def test_the_page_has_each_identifier_once_and_loads_nothing() -> None:
    page = draw(small(), small(norm="post_ln")).html()
    identifiers = re.findall(r'\bid="([^"]+)"', page)
    assert len(identifiers) == len(set(identifiers)) == 6
    assert page.count("<svg") == 2
    assert not re.search(r'(src|href)="|url\((?!#)', page)


def test_notebooks_show_the_image() -> None:
    drawing = draw(small())
    assert drawing._repr_svg_() == drawing.svg()


def test_the_command_writes_an_image_or_a_page(tmp_path: Path) -> None:
    spec = "configs/models/tiny.json"
    for name, start in (("a.svg", "<svg"), ("a.html", "<!doctype html>")):
        out = tmp_path / name
        result = CliRunner().invoke(main, ["draw", spec, spec, "--set", "norm=post_ln", "--out", str(out)])
        assert result.exit_code == 0, result.output
        assert out.read_text().startswith(start)
        assert "norm post_ln" in out.read_text()
        assert "norm pre_ln" in out.read_text()


def test_a_png_image_has_the_boxes_and_their_text(tmp_path: Path) -> None:
    pytest.importorskip("resvg_py")
    image_module = pytest.importorskip("matplotlib.image")
    scene = lay_out(content_of(gptzoo.load_model_spec(small())))
    pixels = image_module.imread(draw(small()).save(tmp_path / "model.png"))
    assert pixels.shape[:2] == (2 * round(scene.height), 2 * round(scene.width))
    box = next(s for s in scene.shapes if isinstance(s, Rectangle) and s.style == "sublayer")
    inside = pixels[2 * int(box.y + 4) : 2 * int(box.y + box.height - 4), 2 * int(box.x + 4) : 2 * int(box.x + 200)]
    assert inside[0, 0, 2] > inside[0, 0, 0]  # sublayers are blue
    assert inside.min() < 0.4  # text


@pytest.mark.parametrize(
    ("name", "message"),
    [("model.gif", "is an .svg, .png or .html file"), ("missing/model.svg", "there is no folder")],
)
def test_a_file_that_cannot_be_written_is_an_error(name: str, message: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["draw", "configs/models/tiny.json", "--out", str(tmp_path / name)])
    assert result.exit_code == 2
    assert message in result.output
    assert list(tmp_path.iterdir()) == []
