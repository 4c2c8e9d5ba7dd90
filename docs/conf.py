"""The configuration of the site: `sphinx-build -W docs SITE` builds it from the Markdown pages in this folder."""

from __future__ import annotations

import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS / "_sphinx"), str(DOCS.parent)]

import gptzoo  # noqa: E402  found in the clone by the line above

project = "gptzoo"
author = "The gptzoo contributors"
version = release = gptzoo.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "repository_pages",  # these three are in _sphinx
    "python_docstrings",
    "mathml",
]
exclude_patterns = ["README.md", "_sphinx"]  # README.md is the navigation, see repository_pages
language = "en"

myst_enable_extensions = ["dollarmath", "html_image"]
myst_heading_anchors = 6  # the anchors of GitHub, on which links between the pages rely

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_display_short_literal_types = True
default_role = "code"
add_module_names = False

html_theme = "furo"
html_title = f"gptzoo {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
copybutton_exclude = ".linenos, .gp, .go"
