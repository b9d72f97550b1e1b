"""What a result depends on: the versions of Python and of the packages that made it."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("torch", "timm", "fvcore", "ray", "optuna", "plotly", "numpy")


def versions() -> str:
    """What a result depends on, in one line."""
    found = [f"Python {platform.python_version()}"]
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} of unknown version")
    return ", ".join(found) + f"; {platform.system()} {platform.machine()}"
