"""``python -m analysis.reported audit``: the command ``tad audit``."""

import sys

from tad.cli import main

sys.exit(main(sys.argv[1:] or ["audit"]))
