"""``python -m tad``: the command ``tad``."""

import sys

from tad.cli import main

sys.exit(main())
