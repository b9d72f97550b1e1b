"""The pages of the attention types: docs/attention.md, which lists them, and one page with one drawing for each.

`python -m docs.site.attention` writes them from the library, so that they can be read without building the site.
"""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks.attention import joined, macs, table
from benchmarks.page import write
from docs.site.diagrams import composition, flow, strip
from spaces.attention import attention_type, list_attentions

DOCS = Path(__file__).parent.parent
INDEX, FOLDER, IMAGES = DOCS / "attention.md", DOCS / "attention", DOCS / "images"
AT = (1, 256, 14, 14)  # the map whose costs the pages tell
SHOWN = "resnet50:se-r16,none,cbam-r16-k7-series,gam-r4-k7-g4@stage"


def listed() -> str:
    """What stands between the marks of docs/attention.md: a line for each type."""
    names = list_attentions()
    rows = table("type | formula | parts | genes | parameters: | MACs:", map(_row, names))
    return joined(f"{len(names)} types:", "", *rows)


def _row(name: str) -> str:
    entry = attention_type(name)
    genes = ", ".join(f"{gene} {entry.default(gene) or 'by C'}" for gene in entry.genes)
    costs = f"{entry.params(AT[1]):,} | {macs(name, AT):,}"
    return f"[{name}](attention/{name}.md) | `{entry.equation}` | {', '.join(entry.parts)} | {genes or '-'} | {costs}"


def page(name: str) -> str:
    """The page of one type."""
    entry = attention_type(name)
    facts = entry.to_dict()
    genes = [
        f"`{gene}` | {entry.default(gene) or 'follows from C'} | {facts['genes'][gene]['valid']}"
        for gene in entry.genes
    ]
    flags = [f"`{flag}` | {values[0]} | {', '.join(map(str, values))}" for flag, values in entry.flags.items()]
    keywords = ", ".join(
        f'{gene}="{v}"' if isinstance(v, str) else f"{gene}={v}" for gene, v in entry.resolve(256).items()
    )
    call = f'create_attention("{name}", channels=256{", " + keywords if keywords else ""})'
    word = "-".join([name, *(_word(gene, value) for gene, value in entry.resolve(256).items())])
    return "\n".join(
        [
            f"# {name}",
            "",
            f"{_linked(entry.paper)}.",
            "",
            "```text",
            entry.equation,
            "```",
            "",
            f"![How {name} is put together]({name}.svg)",
            "",
            f"**When to try it.** {entry.use}",
            "",
            "[The symbols](../attention.md#symbols) are those of all types.",
            "",
            "## Cost",
            "",
            f"At C = 256 on a 14 x 14 map, with the defaults: {entry.params(256):,} parameters and {macs(name, AT):,} MACs.",
            f"Parameters in closed form: {entry.formula}. What is counted: [costs](../costs.md). How fast it is:",
            "[measured](../benchmarks/attention.md).",
            "",
            "## What can be chosen",
            "",
            *(table("gene | default | valid", genes) if genes else ["No genes: there is one way to build it.", ""]),
            *(
                ["Variants of published code, given by keyword:", "", *table("flag | default | valid", flags)]
                if flags
                else []
            ),
            "## Use",
            "",
            "In the text of an architecture and in `space.attentions` of a configuration:",
            "",
            "```text",
            f"resnet50:none,none,{word},none",
            "```",
            "",
            "As a module, (B, C, H, W) to the same shape; `dims=3` for clips, `identity_start=True` to begin as the identity:",
            "",
            "```python",
            "from spaces.attention import create_attention",
            "",
            f"module = {call}",
            "```",
            "",
            "[All types](../attention.md)",
            "",
        ]
    )


def _word(gene: str, value: object) -> str:
    letter = {"reduction": "r", "kernel": "k", "groups": "g"}.get(gene, "")
    return f"{letter}{value}"


def _linked(paper: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def pages() -> dict[Path, str]:
    """Every file beside the index that is written from the library."""
    found = {IMAGES / "strip.svg": strip(SHOWN), IMAGES / "flow.svg": flow()}
    for name in list_attentions():
        found[FOLDER / f"{name}.md"] = page(name)
        found[FOLDER / f"{name}.svg"] = composition(name)
    return found


def main() -> None:
    """Write them all."""
    write(INDEX, "types", listed())
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    main()
