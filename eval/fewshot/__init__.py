"""Few-shot accuracy by lm-eval, on the real benchmarks or on analogues."""
