"""The paper's printed values, and the audit of their arithmetic."""
