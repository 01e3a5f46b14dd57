"""A whole scale run in miniature before it is paid for: ``tad rehearse``."""
