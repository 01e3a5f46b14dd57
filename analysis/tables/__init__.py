"""Tables from records, as CSV, Markdown, HTML and LaTeX."""
