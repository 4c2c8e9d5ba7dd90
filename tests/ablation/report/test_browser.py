"""The page in Chromium: from a file, light and dark, on a phone, in print, and live for a running ablation."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from synthetic_outcome import many_variants, six_variants, write_folder

from gptzoo.ablation.report.serve import ReportServer
from gptzoo.ablation.report.write import write_report

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium"),
]


@dataclass
class Visit:
    """An open page, with its console messages and requests."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--disable-sync", "--no-first-run"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(six_variants(), tmp_path_factory.mktemp("report")).page


def visit(browser: Any, address: str, *, width: int = 1180, **options: Any) -> Visit:
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    opened = Visit(page)
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request.url))
    page.goto(address)
    return opened


def names(page: Any) -> list[str]:
    return page.eval_on_selector_all("#ranking tbody tr", "rows => rows.map((row) => row.dataset.variant)")  # type: ignore[no-any-return]


@pytest.mark.parametrize("width", [1180, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_draws_all_figures_without_errors_or_requests(
    browser: Any, report: Path, scheme: str, width: int
) -> None:
    opened = visit(browser, report.as_uri(), width=width, color_scheme=scheme)
    page = opened.page
    for name in ("means", "differences", "curves", "main-effects", "interactions", "front"):
        box = page.locator(f"#figure-{name} .drawing svg").bounding_box()
        assert box["width"] > 250, name
        assert box["height"] > 60, name
    assert page.locator("#figure-differences .row").count() == 4
    assert page.locator("#figure-curves path.line").count() == 5
    assert page.locator("#figure-front circle.point").count() == 5
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.title() == "attention-and-positions: ablation report"
    dark = sum(map(int, page.evaluate("getComputedStyle(document.body).backgroundColor").strip("rgb()").split(",")))
    assert (dark < 200) == (scheme == "dark")
    assert opened.messages == []
    assert [url for url in opened.requests if not url.startswith(("file:", "data:"))] == []


def test_positions_in_a_drawing_match_the_numbers(browser: Any, report: Path) -> None:
    """The x positions are an affine function of the values in the table."""
    page = visit(browser, report.as_uri()).page
    drawn = page.evaluate(
        """() => [...document.querySelectorAll("#figure-means .row")].map((row) => {
          const mean = row.querySelector(".mean"), value = document.querySelector(
            `#ranking tr[data-variant="${row.dataset.label}"]`).children[1].dataset.value;
          return [Number(value), Number(mean.getAttribute("x"))];
        })"""
    )
    (a, at_a), (b, at_b) = drawn[0], drawn[-1]
    for value, at in drawn:
        assert at == pytest.approx(at_a + (value - a) / (b - a) * (at_b - at_a), abs=0.1)


def test_the_table_sorts_by_any_column_in_both_directions(browser: Any, report: Path) -> None:
    page = visit(browser, report.as_uri()).page
    ranked = names(page)
    page.get_by_role("button", name="val/loss", exact=True).click()
    assert names(page) == ranked
    page.get_by_role("button", name="val/loss", exact=True).click()
    assert names(page) == [*reversed(ranked[:-1]), ranked[-1]]
    page.locator("#ranking").get_by_role("button", name="variant", exact=True).click()
    assert names(page) == sorted(ranked)
    assert page.locator("#ranking th").first.get_attribute("aria-sort") == "ascending"


def test_curves_have_tooltips_and_settings(browser: Any, report: Path) -> None:
    opened = visit(browser, report.as_uri())
    page, curves = opened.page, opened.page.locator("#figure-curves")
    before = curves.locator("path.line").first.get_attribute("d")
    for label, title in (
        ("tokens", "training tokens"),
        ("flops", "training FLOPs"),
        ("seconds", "seconds of training"),
    ):
        curves.get_by_label("against").select_option(label)
        assert curves.locator("svg text", has_text=title).count() == 1
    curves.get_by_label("axes").select_option("both")
    curves.get_by_label("show").select_option("1")
    assert curves.locator("path.line").first.get_attribute("d") != before
    curves.get_by_label("metric").select_option("train/loss")
    curves.get_by_role("button", name="sdpa-none").click()
    assert curves.locator("path.line[data-variant=sdpa-none]").count() == 0
    curves.locator(".drawing svg").hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert "sdpa-alibi" in tip.inner_text()
    assert "sdpa-none" not in tip.inner_text()
    curves.locator(".drawing svg").focus()
    page.keyboard.press("ArrowLeft")
    assert tip.is_visible()
    page.locator("#figure-front .controls").get_by_label("cost").select_option("seconds per token")
    assert page.locator("#figure-front svg text", has_text="seconds per training token").count() == 1
    assert opened.messages == []


def test_markup_in_texts_is_not_interpreted(browser: Any, report: Path) -> None:
    opened = visit(browser, report.as_uri())
    opened.page.locator("#samples summary", has_text="Seed 2").click()
    assert "<script>" in opened.page.locator("#samples details[open] blockquote").last.inner_text()
    assert opened.page.title() == "attention-and-positions: ablation report"
    assert opened.messages == []


def test_without_javascript_there_are_images_and_tables(browser: Any, report: Path) -> None:
    page = visit(browser, report.as_uri(), java_script_enabled=False).page
    assert page.locator("#ranking tbody tr").count() == 6
    assert page.locator("figure img").count() == 6


def test_the_page_prints_completely(browser: Any, report: Path, tmp_path: Path) -> None:
    opened = visit(browser, report.as_uri(), color_scheme="dark")
    content = opened.page.pdf(format="A4", print_background=True)
    assert content.startswith(b"%PDF")
    assert 3 <= content.count(b"/Type /Page\n") <= 12
    opened.page.emulate_media(media="print")
    opened.page.set_viewport_size({"width": 688, "height": 1000})  # the width of an A4 page without margins
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 688
    assert opened.page.evaluate("getComputedStyle(document.body).color") == "rgb(29, 36, 48)"
    assert opened.messages == []


@pytest.mark.parametrize("n", [1, 40])
def test_any_number_of_variants_is_drawn(browser: Any, tmp_path: Path, n: int) -> None:
    opened = visit(browser, write_report(many_variants(n), tmp_path).page.as_uri())
    assert opened.page.locator("#figure-means .row").count() == n
    assert opened.page.locator("#figure-curves path.line").count() == min(n, 8)
    assert opened.messages == []


def test_a_running_ablation_is_followed_and_the_settings_are_kept(browser: Any, tmp_path: Path) -> None:
    folder = tmp_path / "ablation"
    write_folder(six_variants(done=0.6), folder)
    with ReportServer(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        opened = visit(browser, server.address)
        page = opened.page
        assert "Preliminary" in page.locator(".lead").inner_text()
        page.locator("#figure-curves").get_by_label("against").select_option("tokens")
        write_folder(six_variants(), folder)
        page.get_by_text("24 done, 6 failed").wait_for(timeout=30_000)
        assert "Preliminary" not in page.locator(".lead").inner_text()
        assert page.locator("#figure-curves").get_by_label("against").input_value() == "tokens"
        assert page.locator("#figure-differences .row").count() == 4
        assert opened.messages == []
        page.context.close()
        server.shutdown()
        thread.join()


def test_on_a_phone_nothing_is_cut_and_no_line_runs_through_a_number(browser: Any, report: Path) -> None:
    page = visit(browser, report.as_uri(), width=390).page
    cut = """() => [...document.querySelectorAll("main *")]
        .filter((node) => node.clientWidth && !node.closest("svg") && node.scrollWidth > node.clientWidth + 1)
        .filter((node) => getComputedStyle(node).overflowX !== "visible").map((node) => node.outerHTML.slice(0, 80))"""
    assert page.evaluate(cut) == []
    row = page.locator("#ranking tbody tr").first
    assert "effect (SD)" in row.inner_html()  # every cell names its column
    assert row.locator("td").nth(1).evaluate("cell => getComputedStyle(cell, '::before').content") == '"val/loss"'
    assert row.get_attribute("role") == "row"
    # Whatever is drawn before the background of a text cannot be seen behind it.
    covered = page.evaluate(
        """() => [...document.querySelectorAll("#figure-means .row, #figure-differences .row")].map((row) => {
          const back = row.querySelector(".under-text").getBoundingClientRect();
          return [...row.querySelectorAll("text")].every((text) => { const box = text.getBoundingClientRect();
            return box.left >= back.left - 1 && box.right <= back.right + 1 && box.bottom <= back.bottom + 2; });
        })"""
    )
    assert len(covered) == 9
    assert all(covered)
    page.get_by_role("button", name="variant", exact=True).first.click()
    assert names(page) == sorted(names(page))


def test_curves_open_on_the_whole_training_if_its_end_has_few_points(browser: Any, tmp_path: Path) -> None:
    page = visit(browser, write_report(many_variants(2), tmp_path).page.as_uri()).page
    show = page.locator("#figure-curves").get_by_label("show")
    assert show.locator("option").all_inner_texts() == ["whole training"]
    assert page.locator("#figure-curves path.line").first.get_attribute("d").count("L") == 2
