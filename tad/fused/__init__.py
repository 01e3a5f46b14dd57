"""The losses from hidden states: ``distillation_loss``, and the output ``Head`` that it takes."""

from tad.fused.head import Head, HeadError
from tad.fused.loss import LossTerms, distillation_loss, token_losses
from tad.fused.states import last_states

__all__ = ["Head", "HeadError", "LossTerms", "distillation_loss", "last_states", "token_losses"]
