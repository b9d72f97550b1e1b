"""What the site makes of the pages of docs/ before they are rendered; on their own they read well as they are.

- A comment `<!-- generated: NAME -->` is replaced by what is generated from the code.
- Links out of docs/ lead to the pages that hold the same.
- The lists of docs/README.md and of the folders become the tree of contents.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

from docs.site import api, commands, settings

DOCS = Path(__file__).parent.parent
ROOT = DOCS.parent
OUTSIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "overview.md"}
LISTED = re.compile(r"^- \[[^\]]*\]\(([^)#]+\.md)\)", re.MULTILINE)
FOLDERS = {"attention": "attention", "benchmarks/README": ""}  # the folder, from the page that lists it


def version() -> str:
    """That of the package."""
    import attune

    return attune.__version__


def prepared(name: str, text: str) -> str:
    """The source of a page as it is rendered. ``name``: that of its file, from docs/, without the ending."""
    text = re.sub(r"<!-- generated: (\w+) -->\n", lambda found: GENERATED[found[1]]() + "\n", text)
    up = "../" * (1 + name.count("/"))  # to the repository's root
    for file, page in OUTSIDE.items():
        text = text.replace(f"]({up}{file}", f"](/{page}")
    if name == "README":
        return contents(text)
    if name in FOLDERS:
        folder = FOLDERS[name]
        here = (DOCS / name).parent / folder
        listed = sorted(f"{folder}/{page.stem}".lstrip("/") for page in here.glob("*.md") if page.stem != "README")
        return f"{text}\n{_tree(listed)}"
    return text


def contents(text: str) -> str:
    """The index, with a tree for each of its lists behind its heading."""
    head, *sections = re.split(r"^(?=## )", text, flags=re.MULTILINE)
    out = [head]
    for section in sections:
        title = section.partition("\n")[0].removeprefix("## ")
        names = [link.removesuffix(".md") for link in LISTED.findall(section)]
        out.append(section + ("\n" + _tree(names, title) if names else ""))
    return "".join(out)


def _tree(names: list[str], caption: str = "") -> str:
    options = [":hidden:", *([f":caption: {caption}"] if caption else [])]
    return "\n".join(["```{toctree}", *options, "", *names, "```", ""])


def start_page(folder: Path) -> None:
    """Lay the index where browsers look for it."""
    if (folder / "README.html").exists():
        shutil.copy(folder / "README.html", folder / "index.html")


def _of_root(file: str) -> Callable[[], str]:
    """A page of the repository's root without its title, whose links lead to the pages of docs/."""

    def read() -> str:
        text = (ROOT / file).read_text().partition("\n")[2]
        text = re.sub(r"\]\(docs/", "](/", text)
        text = re.sub(r"\]\((\w+\.md)", lambda found: f"](/{OUTSIDE.get(found[1], found[1])}", text)
        return text.replace("](LICENSE)", "](https://www.apache.org/licenses/LICENSE-2.0)")

    return read


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings.markdown,
    "commands": commands.markdown,
    "api": api.markdown,
    "changelog": _of_root("CHANGELOG.md"),
    "contributing": _of_root("CONTRIBUTING.md"),
    "overview": _of_root("README.md"),
}
