"""``python -m analysis.claims``: the command ``tad claims``."""

import sys

from tad.cli import main

sys.exit(main(["claims", *sys.argv[1:]]))
