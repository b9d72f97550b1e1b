"""docs/attention.md describes the library as it is."""

from benchmarks.attention import DOCS, library


def without_speed(text: str) -> list[str]:
    """The page down to its measurements, each table row without its last cell."""
    lines = text.partition("## Every measurement")[0].rstrip().splitlines()
    return [line.rsplit("|", 2)[0] if line.startswith("|") else line for line in lines]


def test_the_page_is_up_to_date_in_everything_but_timings() -> None:
    assert without_speed(DOCS.read_text()) == without_speed(library([])), "run `python -m benchmarks.attention --docs`"
