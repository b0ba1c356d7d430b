"""What the storage is asked, by subject: each has its rows, its contract and its implementation in one place."""
