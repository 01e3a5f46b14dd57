"""``python -m analysis.figures``: the command ``tad figures``."""

import sys

from tad.cli import main

sys.exit(main(["figures", *sys.argv[1:]]))
