"""The Slurm profile on a real cluster of one node, started by the tests; skipped without Slurm."""
