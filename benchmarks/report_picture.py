"""Screenshot of the top of a report with Chromium, for docs/report.png.

gptzoo ablate configs/ablations/positions.json --out ablations/positions && gptzoo report ablations/positions
python benchmarks/report_picture.py ablations/positions/report/report.html docs/report.png
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

N_COLOURS = 64  # enough for all colours of the page but some smooth edges, at a third of the file size

report, picture = Path(sys.argv[1]), Path(sys.argv[2])
with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
    )
    page = browser.new_page(viewport={"width": 1100, "height": 1000}, color_scheme="light")
    page.goto(report.resolve().as_uri())
    last_figure = page.locator("#figure-curves").bounding_box()
    assert last_figure is not None
    clip = {"x": 0, "y": 0, "width": 1100, "height": last_figure["y"] + last_figure["height"] + 20}
    page.screenshot(path=picture, full_page=True, clip=clip)
    browser.close()

with Image.open(picture) as screenshot:
    quantized = screenshot.convert("RGB").quantize(N_COLOURS, dither=Image.Dither.NONE)
quantized.save(picture, optimize=True)
