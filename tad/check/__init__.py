"""``tad check``: whether a scale can run, asked before any of it does."""
