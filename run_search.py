#!/usr/bin/env python
"""The command line of Attune from a checkout: the same as the installed command ``attune``."""

import sys

from attune.__main__ import command
from attune.__main__ import main as main  # for callers in Python

if __name__ == "__main__":
    sys.exit(command())
