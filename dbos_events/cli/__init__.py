"""The command line, `dbos-events`: a module for each group of commands. Nothing else imports it."""

from __future__ import annotations


def main() -> None:
    """Run the command that the process was started with, and exit with its code.

    0: done. 1: it failed, and one line on standard error says why. 2: it was called wrongly.
    `dbos-events run` has more to say about its codes in its help.
    """
    import os
    import sys

    # In the C locale Python reads arguments as ASCII, and ids and names of any script would become other texts.
    sys.argv[1:] = [os.fsencode(argument).decode("utf-8", "surrogateescape") for argument in sys.argv[1:]]
    from dbos_events.cli.root import app

    app(prog_name="dbos-events")
