"""Full-ECE of a language model (Table 4)."""

from eval.calibration.measure import CalibrationResult, FullECE

__all__ = ["CalibrationResult", "FullECE"]
