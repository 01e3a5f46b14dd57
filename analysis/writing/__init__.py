"""Tables as CSV, Markdown, HTML and LaTeX."""
