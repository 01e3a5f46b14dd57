"""What a reader sees first of a scale: one page of findings with every figure and table."""
