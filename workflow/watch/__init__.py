"""What is there, what ran and what failed: ``tad list | status | logs | show``, and the lines that
a running Snakemake prints. Reads files alone; light to import."""
