"""``python -m analysis.scaling_law``: the command ``tad scaling-law``."""

import sys

from tad.cli import main

sys.exit(main(["scaling-law", *sys.argv[1:]]))
