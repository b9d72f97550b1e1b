"""What every page of the analysis is made of: a template, one style sheet, plotly.js, and data that cannot break out."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from search.public import masked

HERE = Path(__file__).parent


def render_page(template: str, *, payload: Any, **values: Any) -> str:
    """One self-contained HTML file from a template of this folder.

    ``payload`` is what the page's script draws, as anything that JSON can hold. Every name from outside is escaped.
    """
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string((HERE / template).read_text())
    css = (HERE / "page.css").read_text()
    return page.render(css=css, plotly=plotly_source(), payload=embed(masked(payload)), **values)


def embed(content: Any) -> str:
    """JSON that can stand inside of a script element whatever it holds."""
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def plotly_source() -> str:
    """plotly.js, as the Python package brings it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())
