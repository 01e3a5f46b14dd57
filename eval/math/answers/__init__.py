"""From the text of a generation to a verdict on its answer; the rules are in ``grammar.md``."""
