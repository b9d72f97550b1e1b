"""How the documentation is built as a site: `make docs`. docs/site/ says what is put into the pages of this folder."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
os.chdir(ROOT)
sys.path.insert(0, str(ROOT))

from sphinx.ext.napoleon import Config, GoogleDocstring  # noqa: E402

from docs.site import pages  # noqa: E402

project = "Attune"
author = "the contributors of Attune"
copyright = "the contributors of Attune, Apache-2.0"
version = release = pages.version()

extensions = ["myst_parser", "sphinx.ext.autodoc"]
root_doc = "README"
exclude_patterns = ["site", "examples"]
templates_path: list[str] = []

html_theme = "furo"
html_title = "Attune"
html_static_path = ["site/static"]
html_css_files = ["attune.css"]
html_show_sphinx = False
html_copy_source = False
pygments_style, pygments_dark_style = "tango", "monokai"

myst_heading_anchors = 4
myst_links_external_new_tab = False

highlight_language = "text"  # of what names none: commands
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
# Types of torch, pandas and others have no page here, and the build asks no other site for theirs.
nitpick_ignore_regex = [("py:.*", ".*")]


def sections(app, what, name, found, options, lines) -> None:
    """Read "Args:" and "Raises:" in docstrings; a colon elsewhere is a colon."""
    if {"Args:", "Raises:", "Returns:"} & {line.strip() for line in lines}:
        lines[:] = GoogleDocstring(lines, Config(), app, "function", name, found, options).lines()


def setup(app) -> None:
    """Have every page prepared, and the start page found where browsers look for it."""
    app.connect("source-read", lambda app, name, source: source.__setitem__(0, pages.prepared(name, source[0])))
    app.connect("autodoc-process-docstring", sections)
    app.connect("build-finished", lambda app, error: None if error else pages.start_page(Path(app.outdir)))
