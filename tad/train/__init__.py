"""Training: the trainer, its jobs, checkpoints and command lines."""
