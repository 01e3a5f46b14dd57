"""The paper's claims, judged by records."""
