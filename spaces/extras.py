"""What Attune does only where more is installed: the extras of its distribution, and one line that names the one that lacks."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from importlib.util import find_spec

from spaces.errors import UsageError

# The packages of each extra that have to be there, by the names they are imported by; pyproject.toml says why.
EXTRAS: dict[str, tuple[str, ...]] = {
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "report": ("plotly", "matplotlib"),
    "data": ("datasets",),
    "detection": ("pycocotools",),
    "video": ("av",),
    "loggers": ("tensorboardX", "mlflow", "wandb"),
}


class MissingExtra(UsageError, ImportError):
    """Something was asked for whose packages are not installed."""


def need(extra: str, what: str, *packages: str) -> None:
    """Raise MissingExtra where a package of an extra is not installed; ``what`` was asked for.

    ``packages``: those that are needed, where it is not all of the extra.
    """
    lacking = [package for package in packages or EXTRAS[extra] if find_spec(package) is None]
    if lacking:
        are = "is" if len(lacking) == 1 else "are"
        raise MissingExtra(
            f"{what} needs {', '.join(lacking)}, which {are} not installed: the extra attune[{extra}]; "
            f"pip install {_wanted(extra, lacking)}"
        )


def _wanted(extra: str, lacking: list[str]) -> str:
    """What pip is asked for: the extra of the installed distribution; in a checkout, where none is, the packages."""
    try:
        ours = extra in (metadata("attune").get_all("Provides-Extra") or [])
    except PackageNotFoundError:
        ours = False
    return f'"attune[{extra}]"' if ours else " ".join(lacking)
