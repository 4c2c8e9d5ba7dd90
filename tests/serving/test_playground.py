"""The playground in a real Chromium: texts, probabilities, chats, attention, the API key, and pages of every size."""

from __future__ import annotations

import json
import math
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import torch
from serving.conftest import CHAT_TEMPLATE, SPEC, listening, served_model
from support import with_large_weights

import gptzoo
from gptzoo.checkpoint.model_folder import LoadedModel
from gptzoo.data.tokenizers.byte import ByteTokenizer
from gptzoo.inspection.attention import attention_maps
from gptzoo.serving.app import make_app
from gptzoo.serving.process.turns import Turns

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
MARKUP = '<img src=x onerror="document.title = 1"> é🙂'
END = 256  # the end-of-text token of the byte tokenizer
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: apt-get install chromium")


def scripted(text: str, before: Callable[[int], object] = lambda number: None) -> LoadedModel:
    """Return a model that continues every prompt with `text`, with a probability of 60% for each of its tokens.

    30% is that of the letter A and 10% that of B. `before` is called with the number of each token.
    """
    model = with_large_weights(gptzoo.build({**SPEC, "context_length": 192})).eval()
    ids = [*text.encode(), END]
    position = 0

    def write(module: Any, arguments: Any, output: Any) -> Any:
        nonlocal position
        position = 0 if arguments[0].shape[1] > 1 else position + 1
        before(position)
        logits = torch.full_like(output[0], -math.inf)
        for token, share in ((ord("A"), 0.3), (ord("B"), 0.1), (ids[min(position, len(ids) - 1)], 0.6)):
            logits[..., token] = math.log(share)
        return logits, output[1]

    model.register_forward_hook(write)
    return LoadedModel(model, ByteTokenizer(ByteTokenizer.Config()), Path("scripted"))


@dataclass
class Visit:
    """An open page, with its console messages and requests."""

    page: Any
    messages: list[str] = field(default_factory=list)
    requests: list[Any] = field(default_factory=list)

    def column(self, name: str) -> Any:
        return self.page.get_by_role("region", name=f"Results of {name}")

    def generate(self, prompt: str, *names: str) -> None:
        """Send a prompt, by default for greedy decoding, and wait until the runs are done."""
        temperature = self.page.get_by_label("Temperature")
        if temperature.input_value() == "0.8":
            temperature.fill("0")
        self.page.get_by_role("textbox", name=re.compile("Prompt|Message")).fill(prompt)
        self.page.get_by_role("button", name=re.compile("Generate|Send")).click()
        for name in names:
            self.column(name).get_by_text(re.compile(r"\d+ tokens?: ")).wait_for(timeout=30_000)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, "--no-first-run"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def url(loaded: LoadedModel) -> Iterator[str]:
    """A server with the runs "scripted", which answers chats, and "tiny", which does not."""
    turns = Turns()
    models = [
        served_model("scripted", scripted(MARKUP), turns=turns, chat_template=CHAT_TEMPLATE),
        served_model("tiny", loaded, turns=turns),
    ]
    with listening(make_app(models)) as address:
        yield address


def visit(browser: Any, address: str, *, width: int = 1280, **options: Any) -> Visit:
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    opened = Visit(page)
    page.on("console", lambda message: opened.messages.append(message.text))
    page.on("pageerror", lambda error: opened.messages.append(str(error)))
    page.on("request", lambda request: opened.requests.append(request))
    page.goto(address)
    return opened


def test_the_page_may_load_nothing_and_run_nothing_but_itself(url: str) -> None:
    answer = httpx.get(url + "/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'"
    for directive in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[\w+/]{43}='", policy[directive])
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert not re.search(r"https?://|\son\w+=|\sstyle=", answer.text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", answer.text)


@needs_chromium
@pytest.mark.slow
def test_two_runs_continue_a_prompt_side_by_side_and_markup_stays_text(browser: Any, url: str) -> None:
    opened = visit(browser, url)
    opened.generate("<b>Once</b> ", "scripted", "tiny")
    text = opened.column("scripted").get_by_role("group")
    assert text.text_content() == "<b>Once</b> " + MARKUP
    assert opened.page.title() == "gptzoo playground"
    assert opened.page.locator(".generated img, .generated b").count() == 0
    n_tokens = len(MARKUP.encode()) + 1
    assert opened.column("scripted").get_by_text(f"{n_tokens} tokens: the text ended.").count() == 1
    assert opened.column("tiny").get_by_text("tokens: the maximum number of tokens is reached.").count() == 1
    assert opened.messages == []
    assert {urlsplit(request.url).netloc for request in opened.requests if request.url != "data:,"} == {
        urlsplit(url).netloc
    }


@needs_chromium
@pytest.mark.slow
def test_tokens_show_their_probabilities_by_mouse_and_by_keyboard(browser: Any, url: str) -> None:
    opened = visit(browser, url)
    opened.generate("Once", "scripted")
    column = opened.column("scripted")
    tokens = column.locator(".generated span[tabindex]")
    # Characters and the end: the two bytes of é and the four of the emoji share an element.
    assert tokens.all_text_contents() == [*MARKUP, ""]
    tokens.nth(0).hover()
    (table,) = column.get_by_role("table").all()
    assert table.locator("caption").inner_text() == "Probability of < was 60.0 %"
    rows = [row.inner_text().split("\t") for row in table.get_by_role("row").all()]
    assert [(cells[0], cells[-1]) for cells in rows[:3]] == [("<", "60.0 % (chosen)"), ("A", "30.0 %"), ("B", "10.0 %")]
    tokens.nth(0).focus()
    opened.page.keyboard.press("ArrowRight")
    assert tokens.nth(1).evaluate("element => element === document.activeElement")
    assert "Probability of i was" in column.locator(".details").inner_text()
    assert column.locator(".generated [tabindex='0']").count() == 1  # the Tab key stops once at each text
    opened.page.keyboard.press("End")
    assert "Probability of end of text was 60.0 %" in column.locator(".details").inner_text()
    assert tokens.last.get_attribute("aria-label") == "end of text"
    opened.page.keyboard.press("ArrowLeft")
    assert [table.locator("caption").inner_text().split()[2] for table in column.get_by_role("table").all()] == [
        rf"bytes:\x{byte:02x}" for byte in "🙂".encode()
    ]
    colour = tokens.nth(0).evaluate("element => getComputedStyle(element).getPropertyValue('--surprise')")
    assert float(colour) == pytest.approx(-math.log(0.6) / 8, abs=1e-6)


@needs_chromium
@pytest.mark.slow
def test_the_page_works_without_a_mouse(browser: Any, url: str) -> None:
    opened = visit(browser, url)
    page = opened.page
    page.get_by_role("button", name="Generate").wait_for()

    def tab_to(role: str, name: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.get_by_role(role, name=name).evaluate_all("all => all.includes(document.activeElement)"):
                return
        pytest.fail(f"the Tab key does not reach {name}")

    tab_to("textbox", "Prompt")
    page.keyboard.type("Once")
    tab_to("spinbutton", "Maximum tokens")
    page.keyboard.press("Control+a")
    page.keyboard.type("5")
    page.keyboard.press("Enter")
    opened.column("tiny").get_by_text("5 tokens: ").wait_for()
    page.evaluate("document.activeElement.blur()")
    tab_to("button", "Show attention")
    page.keyboard.press("Enter")
    heading = page.get_by_role("heading", name="Attention of scripted")
    heading.wait_for()
    assert heading.evaluate("element => element === document.activeElement")
    tab_to("button", "blocks.0.attention, head 0")
    page.keyboard.press("ArrowRight")
    page.get_by_role("heading", name="blocks.0.attention (sdpa), head 1").wait_for()
    tab_to("slider", "Token that attends")
    page.keyboard.press("Home")
    assert "Token 1, O, attends most to: O 1.000" in page.locator(".strongest").inner_text()
    page.get_by_role("button", name="Close").press("Enter")
    assert (
        opened.column("scripted")
        .get_by_role("button", name="Show attention")
        .evaluate("element => element === document.activeElement")
    )


@needs_chromium
@pytest.mark.slow
def test_the_attention_is_that_of_prompt_and_text(browser: Any, url: str, loaded: LoadedModel) -> None:
    opened = visit(browser, url)
    opened.page.get_by_label("Maximum tokens").fill("4")
    opened.generate("to be", "tiny")
    text = opened.column("tiny").get_by_role("group").text_content()
    opened.column("tiny").get_by_role("button", name="Show attention").click()
    opened.page.get_by_label("blocks.0.attention, head 1").click()
    (expected,) = attention_maps(loaded, list(text.encode())).maps
    opened.page.locator("#attention .text span").nth(3).hover()
    shown = [float(span.get_attribute("title")) for span in opened.page.locator("#attention .text span").all()]
    assert shown == pytest.approx(expected.weights[1, 3].tolist(), abs=9e-5)
    assert opened.messages == []


@needs_chromium
@pytest.mark.slow
def test_a_chat_keeps_its_messages_and_a_run_without_template_says_why_not(browser: Any, url: str) -> None:
    opened = visit(browser, url)
    opened.page.get_by_label("Chat").check()
    reason = "No chat with tiny: this model has no chat template"
    assert reason in opened.page.locator("#prompt-note").inner_text()
    for message in ("Hi", "Why?"):
        opened.generate(message, "scripted")
        opened.page.get_by_role("button", name="Send").and_(opened.page.locator(":enabled")).wait_for()
    assert reason in opened.column("tiny").get_by_role("alert").inner_text()
    sent = [json.loads(r.post_data) for r in opened.requests if r.url.endswith("/v1/chat/completions")]
    assert [(body["model"], len(body["messages"])) for body in sent] == [("scripted", 1), ("scripted", 3)]
    answer = {"role": "assistant", "content": MARKUP}
    assert sent[1]["messages"] == [{"role": "user", "content": "Hi"}, answer, {"role": "user", "content": "Why?"}]
    opened.column("scripted").locator(".message").last.locator("span[tabindex]").nth(0).hover()
    assert "Probability of < was 60.0 %" in opened.column("scripted").locator(".details").inner_text()
    opened.column("scripted").get_by_role("button", name="Show attention").click()
    opened.page.locator("#attention .text").wait_for()
    template = f"user: Hi\0assistant: {MARKUP}\0user: Why?\0assistant: {MARKUP}\0"  # \0 is the end-of-text token
    assert opened.page.locator("#attention .text span").count() == len(template.encode())
    opened.page.get_by_role("button", name="New chat").click()
    assert opened.page.locator(".message").count() == 0


@needs_chromium
@pytest.mark.slow
def test_the_controls_reach_the_server_and_its_errors_reach_the_page(browser: Any, url: str) -> None:
    opened = visit(browser, url)
    page = opened.page
    values = {"Maximum tokens": 7, "Temperature": 0.5, "Top-p": 0.9, "Top-k": 5, "Min-p": 0.1, "Repetition penalty": 2}
    for label, value in {**values, "Seed": 3, "Stop at the text": "zz"}.items():
        page.get_by_label(label).fill(str(value))
    opened.generate("Once", "scripted", "tiny")
    bodies = [json.loads(r.post_data) for r in opened.requests if r.url.endswith("/v1/completions")]
    names = ("max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "stop")
    for body in bodies:
        assert [body[name] for name in names] == [*values.values(), 3, "zz"]
    page.get_by_label("Compare with").select_option("no other run")
    assert page.locator(".column").count() == 1
    page.get_by_label("Maximum tokens").fill("500")
    page.get_by_role("button", name="Generate").click()
    alert = opened.column("scripted").get_by_role("alert")
    alert.get_by_text("the maximum is 192 tokens").wait_for()


@needs_chromium
@pytest.mark.slow
def test_a_text_can_be_stopped(browser: Any) -> None:
    goes_on = threading.Event()
    model = scripted("x" * 80, before=lambda number: number < 5 or goes_on.wait(30))
    with listening(make_app([served_model("endless", model)])) as address:
        try:
            opened = visit(browser, address)
            opened.page.get_by_label("Temperature").fill("0")
            opened.page.get_by_label("Prompt").fill("Once")
            opened.page.get_by_role("button", name="Generate").click()
            text = opened.column("endless").get_by_role("group")
            text.locator("span[tabindex]").nth(4).wait_for()
            opened.page.get_by_role("button", name="Stop").click()
            opened.column("endless").get_by_text("5 tokens: stopped.").wait_for()
            assert text.text_content() == "Oncexxxxx"
            assert opened.page.get_by_role("button", name="Generate").is_enabled()
        finally:
            goes_on.set()


@needs_chromium
@pytest.mark.slow
def test_the_page_asks_for_the_api_key_and_keeps_it_out_of_addresses(browser: Any, loaded: LoadedModel) -> None:
    with listening(make_app([served_model("tiny", loaded)], api_key="sesame")) as address:
        opened = visit(browser, address)
        page = opened.page
        page.get_by_label("API key").wait_for()
        assert page.get_by_role("button", name="Generate").count() == 0
        page.get_by_label("API key").fill("wrong")
        page.get_by_role("button", name="Use this key").click()
        page.get_by_text("This API key is wrong.").wait_for()
        page.get_by_label("API key").fill("sesame")
        page.keyboard.press("Enter")
        opened.generate("Once", "tiny")
        opened.column("tiny").get_by_role("button", name="Show attention").click()
        page.get_by_role("heading", name="Attention of tiny").wait_for()
        page.reload()
        page.get_by_role("button", name="Generate").wait_for()  # the tab still has the key
        assert page.url == address + "/"
        assert not any("sesame" in request.url for request in opened.requests)
        assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]
        page.get_by_role("button", name="Forget API key").click()
        page.reload()
        page.get_by_label("API key").wait_for()


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_its_window_and_has_enough_contrast(browser: Any, url: str, scheme: str, width: int) -> None:
    opened = visit(browser, url, width=width, color_scheme=scheme)
    opened.generate("Once", "scripted", "tiny")
    opened.column("tiny").locator("span[tabindex]").nth(3).hover()
    opened.column("tiny").get_by_role("button", name="Show attention").click()
    opened.page.locator(".heads canvas").first.wait_for()
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    boxes = [opened.column(name).bounding_box() for name in ("scripted", "tiny")]
    assert (boxes[0]["y"] == boxes[1]["y"]) == (width == 1280)  # side by side, or one above the other
    colours = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    panel = _rgb(opened.column("tiny").evaluate(colours)[1])
    for element in opened.page.locator(".generated span, label, .note, button:enabled, .details caption").all():
        ink, ground = map(_rgb, element.evaluate(colours))
        visible = [front * ground[3] + panel[i] * (1 - ground[3]) for i, front in enumerate(ground[:3])]
        dark, light = sorted((_luminance(ink), _luminance(visible)))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, element.evaluate("e => e.outerHTML")
    assert opened.messages == []


def _rgb(colour: str) -> list[float]:
    """Return red, green, blue and opacity of a computed colour."""
    values = [float(value) for value in re.findall(r"[\d.]+", colour)]
    return [*values, 1.0][:4]


def _luminance(colour: list[float]) -> float:
    """Return the relative luminance of a colour by WCAG 2."""
    linear = [
        v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in (value / 255 for value in colour[:3])
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
