"""Figures as PNG and SVG, and the contrast of their colours."""

from __future__ import annotations

import itertools
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from synthetic_outcome import many_variants, six_variants

from gptzoo.ablation.records.outcome import Outcome
from gptzoo.ablation.report import palette
from gptzoo.ablation.report.write import write_report

# Machado, Oliveira, Fernandes 2009, at full severity, on linear RGB.
COLOUR_VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def oklab(rgb: np.ndarray) -> np.ndarray:
    """Convert linear RGB to OKLab (Ottosson 2020)."""
    cones = np.cbrt(
        np.array([[0.4122, 0.5363, 0.0514], [0.2119, 0.6807, 0.1074], [0.0883, 0.2817, 0.6300]]) @ np.clip(rgb, 0, 1)
    )
    return np.array([[0.2105, 0.7936, -0.0041], [1.9780, -2.4286, 0.4506], [0.0259, 0.7828, -0.8087]]) @ cones


@pytest.mark.parametrize("vision", COLOUR_VISION)
@pytest.mark.parametrize("colours", [palette.LIGHT, palette.DARK], ids=["light", "dark"])
def test_any_two_colours_are_distinguishable(colours: tuple[str, ...], vision: str) -> None:
    perceived = [oklab(np.array(COLOUR_VISION[vision]) @ linear(colour)) for colour in colours]
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(perceived, 2)) > 0.1


@pytest.mark.parametrize(("scheme", "colours"), [("light", palette.LIGHT), ("dark", palette.DARK)])
def test_every_colour_has_enough_contrast_to_the_background(scheme: str, colours: tuple[str, ...]) -> None:
    def luminance(colour: str) -> float:
        return float(linear(colour) @ [0.2126, 0.7152, 0.0722])

    for colour in colours:
        low, high = sorted([luminance(colour), luminance(palette.BACKGROUND[scheme])])
        assert (high + 0.05) / (low + 0.05) >= 3  # WCAG 2.2, 1.4.11


def test_line_styles_repeat_only_after_all_combinations() -> None:
    names = [f"v{i}" for i in range(19)]
    styles = palette.line_styles(names, "v0")
    assert styles["v0"] == palette.LineStyle(None, "")
    assert len(set(styles.values())) == 19


@pytest.mark.slow
def test_every_figure_is_written_as_png_and_svg_and_embedded_in_the_page(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    report = write_report(six_variants(), tmp_path)
    names = {file.stem for file in (tmp_path / "figures").glob("*.png")}
    assert names == {file.stem for file in (tmp_path / "figures").glob("*.svg")}
    assert {"means", "differences", "curves-step", "curves-flops", "main-effects", "front-parameters"} <= names
    for file in (tmp_path / "figures").glob("*.svg"):
        assert ET.parse(file).getroot().tag.endswith("svg")
    assert all(file.stat().st_size > 0 for file in report.files)
    assert report.page.read_text(encoding="utf-8").count('<img src="data:image/png;base64,') == 6


@pytest.mark.parametrize("ablation", [many_variants(1), many_variants(30)], ids=["one", "thirty"])
def test_figures_of_any_number_of_variants_are_drawn(ablation: Outcome, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert write_report(ablation, tmp_path).page.is_file()
