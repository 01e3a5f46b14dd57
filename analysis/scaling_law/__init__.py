"""Scaling-law fits of loss against tokens and parameters (Table 5)."""

from analysis.scaling_law.chinchilla import ChinchillaFit, fit_chinchilla
from analysis.scaling_law.robust import FitError
from analysis.scaling_law.tokens import Fit, fit_tokens

__all__ = ["ChinchillaFit", "Fit", "FitError", "fit_chinchilla", "fit_tokens"]
