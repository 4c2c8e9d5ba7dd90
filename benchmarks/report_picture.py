"""docs/report.png: the first screen of a report's figures, by Chromium.

gptzoo ablate configs/ablations/positions.json --out ablations/positions && gptzoo report ablations/positions
python benchmarks/report_picture.py ablations/positions/report/report.html docs/report.png
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    browser = playwright.chromium.launch(
        executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
    )
    page = browser.new_page(viewport={"width": 1100, "height": 1000}, color_scheme="light")
    page.goto(Path(sys.argv[1]).resolve().as_uri())
    bottom = page.locator("#figure-curves").bounding_box()
    assert bottom is not None
    whole = {"x": 0, "y": 0, "width": 1100, "height": bottom["y"] + bottom["height"] + 20}
    page.screenshot(path=sys.argv[2], full_page=True, clip=whole)
    browser.close()

# 64 colours are all that it has but for smooth edges, at a third of the size.
with Image.open(sys.argv[2]) as picture:
    fewer = picture.convert("RGB").quantize(64, dither=Image.Dither.NONE)
fewer.save(sys.argv[2], optimize=True)
