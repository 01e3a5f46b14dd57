"""``python -m analysis.tables``: the command ``tad tables``."""

import sys

from tad.cli import main

sys.exit(main(["tables", *sys.argv[1:]]))
