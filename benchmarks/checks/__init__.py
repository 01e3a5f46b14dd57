"""What `make gpu-check` checks, a module a subject; each gives rows of one table."""
