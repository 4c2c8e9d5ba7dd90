"""The HTML pages in a real browser, from a file and without a network."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.inspection.attention import attention_maps
from gptzoo.inspection.html_pages import attention_page, lens_page
from gptzoo.inspection.lens import logit_lens

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
IDS = list(b"to be </b>")


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    spec = {"vocab_size": 257, "context_length": 32, "d_model": 24, "n_layers": 2, "n_heads": 3}
    model = with_large_weights(gptzoo.build(spec, seed=3)).eval()
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("here"))


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as engine:
        chromium_browser = engine.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield chromium_browser
        chromium_browser.close()


def open_page(browser: Any, file: Path, text: str, **options: Any) -> Any:
    """Open the page. Fail the test on a script error or any request besides the page itself."""
    file.write_text(text, encoding="utf-8")
    page = browser.new_page(**options)
    page.on("pageerror", lambda error: pytest.fail(str(error)))
    page.on("request", lambda request: request.url == file.as_uri() or pytest.fail(f"requests {request.url}"))
    page.goto(file.as_uri())
    return page


def test_heads_are_selected_by_click_or_key_and_weights_shown_on_hover(
    browser: Any, loaded: LoadedModel, tmp_path: Path
) -> None:
    maps = attention_maps(loaded, IDS)
    page = open_page(browser, tmp_path / "maps.html", attention_page(maps, "Maps"))
    assert page.locator(".heads button").count() == 6
    page.get_by_label("blocks.1.attention, head 1").click()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("heading", name="blocks.1.attention (sdpa), head 2").count() == 1
    page.locator(".text span").nth(7).hover()
    weights = [float(span.get_attribute("title")) for span in page.locator(".text span").all()]
    assert weights == pytest.approx(maps.maps[1].weights[2, 7].tolist(), abs=6e-5)
    assert page.locator(".text").inner_text() == "to·be·</b>"
    box = page.locator("#map").bounding_box()
    page.mouse.move(box["x"] + box["width"] - 10, box["y"] + box["height"] - 10)
    match = re.search(r"> → >  (\S+)  \(positions 9 → 9\)", page.locator(".reading").text_content())
    assert match is not None
    assert float(match[1]) == pytest.approx(maps.maps[1].weights[2, 9, 9].item(), abs=6e-5)


def test_selected_heads_keep_their_numbers(browser: Any, loaded: LoadedModel, tmp_path: Path) -> None:
    maps = attention_maps(loaded, IDS).select(layers=[1], heads=[2, 1])
    page = open_page(browser, tmp_path / "maps.html", attention_page(maps, "Maps"))
    assert page.locator(".heads thead th").all_inner_texts() == ["head", "2", "1"]
    assert page.get_by_role("heading", name="blocks.1.attention (sdpa), head 2").count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_lens_cell_shows_its_candidates_and_has_enough_contrast(
    browser: Any, loaded: LoadedModel, tmp_path: Path, scheme: str
) -> None:
    lens = logit_lens(loaded, IDS, n_best=3)
    page = open_page(browser, tmp_path / "lens.html", lens_page(lens, "Lens"), color_scheme=scheme)
    rows = page.locator(".lens tr")
    assert [row.locator("th").first.inner_text() for row in rows.all()] == ["blocks.1", "blocks.0", "in", "after"]
    rows.nth(1).locator("td").nth(4).hover()
    shares = page.locator(".bars span:nth-child(3n)").all_inner_texts()
    assert [float(share.removesuffix(" %")) / 100 for share in shares] == pytest.approx(
        lens.probabilities[1, 4].tolist(), abs=1e-3
    )
    labels = page.locator(".bars span.mono").all_text_contents()
    assert labels == [lens.labels[token] for token in lens.ids[1, 4].tolist()]
    assert f"rank {int(lens.rank[1, 4]) + 1}" in page.locator("dl").inner_text()
    for cell in page.locator(".lens td").all():
        ink, ground = (_luminance(cell.evaluate(f"e => getComputedStyle(e).{name}")) for name in _COLOURS)
        assert (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05) > 4.0  # the contrast of black on white is 21


_COLOURS = ("color", "backgroundColor")


def _luminance(colour: str) -> float:
    """Return the relative luminance of `rgb(…)` by WCAG 2."""
    r, g, b = (int(value) / 255 for value in re.findall(r"\d+", colour)[:3])
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (r, g, b)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
