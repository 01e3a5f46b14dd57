"""``python -m eval.calibration``: the command ``tad eval calibration``."""

import sys

from tad.cli import main

sys.exit(main(["eval", "calibration", *sys.argv[1:]]))
