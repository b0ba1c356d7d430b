"""What an operator may ask and do, written once for DBOS, the command line and whatever comes beside it."""
