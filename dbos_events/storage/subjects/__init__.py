"""Subjects of the storage, each in a file: its rows, its contract, its implementation."""
