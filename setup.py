"""The packages of the distribution; all else about it stands in pyproject.toml, which cannot say where `configs/` goes."""

from setuptools import find_packages, setup

setup(
    packages=[
        *find_packages(include=[f"{name}*" for name in ("attune", "spaces", "evaluators", "search")]),
        "search.configs",
    ],
    package_dir={"search.configs": "configs"},
)
