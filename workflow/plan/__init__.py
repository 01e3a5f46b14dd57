"""``tad plan``: what a scale, or a part of it, costs before anything runs (``tad.plan``)."""
