"""What a scale costs before anything runs: FLOPs, time, memory, disk, downloads.

Light to import: ``tad plan`` (``workflow.plan``) shows it, and the rules ask for their resources.
"""
