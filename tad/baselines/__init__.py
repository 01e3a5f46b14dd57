"""What MiniPLM and Seq-KD do ahead of training."""
