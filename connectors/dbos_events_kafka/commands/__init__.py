"""`dbos-events kafka`: how far consumers are, what became of each record, and what operators decide."""
