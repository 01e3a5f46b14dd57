"""The DAG: rules, and what their targets are made of. Light to import."""
