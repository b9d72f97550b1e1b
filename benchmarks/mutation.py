"""Which small changes of the code no test notices: what `mutmut run` found, by module, and every survivor with its reason.

    python -m mutmut run && python -m benchmarks.mutation [--markdown [FILE]]

Why a survivor changes nothing stands in mutation_survivors.yaml. A change is named by its function and the lines that it
makes, so that the file holds as long as these lines do. Ends with 1 where a module (with what is a part of it) falls short or
a survivor has no reason.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import yaml
from mutmut.mutation.diff_apply import get_diff_for_mutant, orig_function_and_class_names_from_key
from mutmut.stats import status_by_exit_code

from benchmarks.page import add_option, write

ROOT = Path(__file__).parent.parent
REASONS = Path(__file__).with_name("mutation_survivors.yaml")
LEAST = 0.9  # the share of its changes that a module's tests have to notice
NOTICED = ("killed", "timeout", "segfault")
PART_OF = {"spaces/boxes.py": "spaces/budget.py"}  # how budgets count; most of its choices are of speed and memory
Change = tuple[str, str]  # the function with its module, and the new lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_option(parser, "mutation.md")
    arguments = parser.parse_args()
    modules = {str(path.relative_to(ROOT / "mutants"))[: -len(".meta")]: states(path) for path in metas()}
    judged: dict[str, dict[str, str]] = defaultdict(dict)
    for path, found in modules.items():
        judged[PART_OF.get(path, path)] |= found
    survivors = [change(name, path) for path, found in modules.items() for name in found if found[name] not in NOTICED]
    reasons = read_reasons()
    text = f"{table(modules)}\n{listing(survivors, reasons)}"
    print(table(modules))
    short = [path for path, found in judged.items() if share(found) < LEAST]
    unknown = [one for one in survivors if one not in reasons]
    for one in set(reasons) - set(survivors):
        print(f"noticed by now, or gone: {one[0]}: {one[1]}", file=sys.stderr)
    for function, lines in unknown:
        print(f"no reason is given for a survivor: {function}: {lines}", file=sys.stderr)
    for path in short:
        print(f"{path}: less than {LEAST:.0%} of the changes are noticed", file=sys.stderr)
    if arguments.markdown and not unknown:
        write(arguments.markdown, "measured", text)
    sys.exit(bool(short or unknown))


def metas() -> list[Path]:
    found = sorted((ROOT / "mutants").rglob("*.py.meta"))
    if not found:
        raise SystemExit("there are no results yet: run python -m mutmut run")
    return found


def states(path: Path) -> dict[str, str]:
    """What became of each mutant of a module. One whose test process ended in an unknown way counts as not noticed."""
    codes = json.loads(path.read_text())["exit_code_by_key"]
    if unfinished := sum(code is None for code in codes.values()):
        raise SystemExit(f"{path}: {unfinished} changes were not tried yet; run python -m mutmut run again")
    return {name: status_by_exit_code[code] for name, code in codes.items()}


def change(name: str, path: str) -> Change:
    function, owner = orig_function_and_class_names_from_key(name)
    lines = [line for line in get_diff_for_mutant(name, path=path).splitlines()[2:] if line[:1] == "+"]
    place = ".".join([*Path(path).with_suffix("").parts, *filter(None, [owner]), function])
    return place, " ".join(line[1:].strip() for line in lines)


def read_reasons() -> dict[Change, str]:
    """The reasons of known survivors: by reason and function, the lines of each change."""
    groups = yaml.safe_load(REASONS.read_text()) if REASONS.exists() else []
    return {
        (function, lines): group["reason"]
        for group in groups
        for function, changes in group["changes"].items()
        for lines in changes
    }


def share(found: dict[str, str]) -> float:
    return sum(state in NOTICED for state in found.values()) / len(found)


def table(modules: dict[str, dict[str, str]]) -> str:
    rows = [(f"`{path}`", len(found), round(share(found) * len(found))) for path, found in modules.items()]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    text = "| module | changes | noticed | share |\n|---|---|---|---|\n"
    return text + "".join(f"| {name} | {many} | {noticed} | {noticed / many:.1%} |\n" for name, many, noticed in rows)


def listing(survivors: list[Change], reasons: dict[Change, str]) -> str:
    by_reason: dict[str, Counter[Change]] = defaultdict(Counter)
    for one in survivors:
        by_reason[reasons.get(one, "no reason is given")][one] += 1
    text = ""
    for reason, found in sorted(by_reason.items(), key=lambda item: -item[1].total()):
        text += f"- **{reason}** ({found.total()})\n"
        for (function, lines), times in found.items():
            text += f"  - `{function}`: `` {lines} ``{f' ({times} times)' if times > 1 else ''}\n"
    return text


if __name__ == "__main__":
    main()
