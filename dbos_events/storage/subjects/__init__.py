"""What the storage knows, by subject: a file with the rows, the contract and the implementation of each."""
