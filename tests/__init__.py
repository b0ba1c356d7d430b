"""The tests of dbos_events."""
