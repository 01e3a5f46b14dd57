"""The losses from hidden states: ``distillation_loss`` and the output ``Head`` it takes."""

from tad.fused.head import Head
from tad.fused.loss import LossTerms, distillation_loss

__all__ = ["Head", "LossTerms", "distillation_loss"]
