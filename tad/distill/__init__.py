"""``tad distill``: your own teacher, student and text in one command, and a report of what it gave.

``arguments`` reads the command line, ``data`` makes rows of tokens, ``models`` loads or makes the
two models, ``train`` trains one student, ``measure`` runs it over the held-out rows, ``report``
says what came of it, and ``job`` does these one after another.
"""
