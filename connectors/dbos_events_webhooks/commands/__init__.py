"""`dbos-events webhook`: look at endpoints and events, sign, send and verify requests."""
