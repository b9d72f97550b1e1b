"""The export formats, one file each: every module of this folder registers its own when the folder is imported."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from search.export.format import known_formats

for _module in iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")


def list_formats() -> list[dict[str, Any]]:
    """The formats by name, with one line of what each is and whether it is written where none is named."""
    return [one.to_dict() for one in known_formats()]
