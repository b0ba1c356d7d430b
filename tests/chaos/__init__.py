"""A proof under faults: `python -m tests.chaos` (`make chaos`).

Worker processes handle events of a real broker into a real database while a schedule that one seed gives kills,
freezes and replaces them, crashes both servers, and cuts, stalls and mutilates the connections in between. The
checker reads what the handlers left behind and the rows of the database, and no log.
"""
