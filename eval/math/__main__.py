"""``python -m eval.math``: the command ``tad eval math``."""

import sys

from tad.cli import main

sys.exit(main(["eval", "math", *sys.argv[1:]]))
