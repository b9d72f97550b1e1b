#!/usr/bin/env python
"""The command line of Attune from a checkout: the same as the installed command ``attune``."""

import sys

from attune.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
