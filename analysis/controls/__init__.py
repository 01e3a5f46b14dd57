"""TAD beside its controls: what weight, beta, learning rate and other divergences do."""
