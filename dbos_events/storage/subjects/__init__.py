"""The storage by subject: each file has the contract of its subject, its row types, and its implementation."""
