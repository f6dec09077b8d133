"""Sphinx's settings for `make docs`: MyST pages, no network, nothing from another server."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_extensions"))

from vidact.core import __version__  # noqa: E402  # the path comes first

project = "vidact"
author = "the vidact authors"
copyright = "the vidact authors, MIT licence"
version = release = __version__

extensions = ["myst_parser", "generated_pages"]
smartquotes = False  # they would make a dash of every --option
exclude_patterns = ["_build", "_extensions"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3  # links to headings, as in networks.md#conservation

html_theme = "pydata_sphinx_theme"
html_title = "vidact"
html_static_path = ["_static"]
html_css_files = ["vidact.css"]
html_sidebars = {"contributing": [], "changelog": []}
html_theme_options = {
    "navigation_with_keys": True,
    "show_toc_level": 2,
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "article_header_start": [],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_show_sourcelink = False
