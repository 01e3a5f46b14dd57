"""From the text of a generation to a verdict on its answer."""
