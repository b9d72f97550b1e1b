"""Whether Attune's own packages are the ones that Python finds under their common names, or others stand in front of them."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from pathlib import Path

OWN = ("spaces", "evaluators", "search")


class ShadowedError(ImportError):
    """A module of somebody else's has the name of one of Attune's packages and comes first on the path."""


@cache
def refuse() -> None:
    """Raise ShadowedError, which names both, where a package of Attune's cannot be reached under its name."""
    home = Path(__file__).resolve().parents[1]
    for name in OWN:
        spec = find_spec(name)
        places = [*(spec.submodule_search_locations or [spec.origin or "?"])] if spec else []
        if not places:
            raise ShadowedError(f"Attune's package {name!r} is missing beside {home / 'attune'}; install Attune anew")
        if Path(places[0]).resolve() != home / name and not _same_files(Path(places[0]), home / name):
            raise ShadowedError(
                f"Python finds another {name!r} ({places[0]}) in front of Attune's own ({home / name}); rename that one, or "
                "start Python where it is not on the path"
            )


def _same_files(found: Path, own: Path) -> bool:
    """Whether two paths are one folder, as an editable installation may write them."""
    return found.exists() and own.exists() and found.samefile(own)
