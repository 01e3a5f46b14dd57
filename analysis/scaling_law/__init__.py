"""The scaling law of one student's loss over token budgets (Table 5)."""
