"""What the storage holds, by subject: a file each, with its contract, its rows and its implementation."""
