"""One module per contestant, each run as a process: `python -m NAME --events ...`."""
