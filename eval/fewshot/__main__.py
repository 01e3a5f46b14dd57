"""``python -m eval.fewshot``: the command ``tad eval fewshot``."""

import sys

from tad.cli import main

sys.exit(main(["eval", "fewshot", *sys.argv[1:]]))
