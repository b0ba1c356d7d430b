"""The services of a launched App, one file per duty, and the intake of events."""
