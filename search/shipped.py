"""The configurations that come with Attune: `configs/` of a checkout, inside of this package where it is installed."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from search.files import is_file

FOLDER = "configs"


def shipped_folder() -> Path:
    """Where they lie."""
    inside = Path(str(files("search"))) / FOLDER
    return inside if inside.is_dir() else inside.parents[1] / FOLDER


def find_config(path: Path) -> Path:
    """The file at a path; where there is none at ``configs/NAME.yaml``, the one of that name that comes with Attune."""
    shipped = shipped_folder() / path.name
    return shipped if not is_file(path) and path.parent == Path(FOLDER) and is_file(shipped) else path


def config_names() -> list[str]:
    """What can be named without a file of one's own, as ``configs/NAME.yaml``, and the files in a folder of that name."""
    found = [*shipped_folder().glob("*.yaml"), *Path(FOLDER).glob("*.yaml")]
    return sorted({f"{FOLDER}/{path.name}" for path in found})
