"""Two architectures of the embedded backbone: one without attention, one with three sorts."""

from spaces import Architecture

PLAIN = Architecture.parse("attune_tiny:none,none,none")
RICH = Architecture.parse("attune_tiny:se-r2,cbam-r4@block,coordinate-r4")
