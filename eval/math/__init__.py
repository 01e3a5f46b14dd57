"""Math word problems: prompts, generation, answer extraction, grading.

``grade(dataset, generation, gold, mode="strict") -> Grade(prediction, correct)``
"""

from eval.math.answers.verdict import Grade, grade

__all__ = ["Grade", "grade"]
