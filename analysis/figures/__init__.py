"""Figures from records, as PNG, PDF and the numbers drawn as CSV."""
