"""The pages hold together: links lead somewhere, indexes name every page, benchmarks find the marks they write between."""

import argparse
import re
from pathlib import Path

import pytest

from benchmarks.page import PAGES, add_option, write

ROOT = Path(__file__).parent.parent
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(page: Path) -> set[str]:
    """The headings of a page as the links that lead to them."""
    headings = re.findall(r"^#+ (.*)$", CODE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(CODE.sub("", page.read_text())):
        if link.startswith(("https://", "http://")):
            continue
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_every_page_that_code_or_prose_names_exists() -> None:
    sources = [
        path for folder in ("spaces", "evaluators", "search", "benchmarks") for path in (ROOT / folder).rglob("*.py")
    ]
    named = {name for path in [*sources, *DOCS] for name in re.findall(r"\bdocs/[\w/]+\.(?:md|png)", path.read_text())}
    assert len(named) > 5
    assert not [name for name in named if not (ROOT / name).exists()]


@pytest.mark.parametrize("folder", [PAGES.parent, PAGES], ids=["docs", "benchmarks"])
def test_the_index_of_a_folder_names_every_page(folder: Path) -> None:
    linked = set(LINK.findall((folder / "README.md").read_text()))
    assert {page.name for page in folder.glob("*.md")} - {"README.md"} <= linked


def test_every_benchmark_finds_its_page() -> None:
    """What a benchmark's source says it writes: its page exists and has its mark."""
    found = set()
    for source in (ROOT / "benchmarks").glob("*.py"):
        text = source.read_text()
        for page in re.findall(r'add_option\(parser, "(.+?)"\)', text):
            found.add(page)
            for mark in re.findall(r'write\(\s*\w+\.markdown,\s*"(.+?)"', text):
                assert f"<!-- {mark} -->\n" in (PAGES / page).read_text(), f"{source.name}: {page} has no mark {mark}"
    assert found == {page.name for page in PAGES.glob("*.md")} - {"README.md", "attention.md"}


def test_marks_that_are_given_by_name_exist() -> None:
    """The marks that `make` and the names of configurations give."""
    marks = re.findall(r"--mark (\w+)", (ROOT / "Makefile").read_text())
    assert sorted(marks) == ["attune", "generated", "peers", "suggestion", "synthetic"]
    for page, names in {"samplers.md": marks, "supernet.md": ["attune_bench", "default"]}.items():
        assert all(f"<!-- {name} -->\n" in (PAGES / page).read_text() for name in names)


def test_a_benchmark_writes_between_the_marks_and_nothing_else(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    add_option(parser, "costs.md")
    assert parser.parse_args([]).markdown is None
    assert parser.parse_args(["--markdown"]).markdown == PAGES / "costs.md"
    page = parser.parse_args(["--markdown", str(tmp_path / "page.md")]).markdown
    page.write_text("before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\nkept\n<!-- end -->\nafter\n")
    write(page, "a", "new\n")
    assert page.read_text() == (
        "before\n<!-- a -->\nnew\n<!-- end -->\nbetween\n<!-- b -->\nkept\n<!-- end -->\nafter\n"
    )
    with pytest.raises(SystemExit, match="no mark <!-- c -->"):
        write(page, "c", "new\n")
