"""From a generation to the answer it commits to; the rules are in ``grammar.md``."""
