"""Figures of ours that set runs beside one another: by parameter, cost and over training."""
