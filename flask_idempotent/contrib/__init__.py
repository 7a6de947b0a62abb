"""Contributions: what the library tells other tools, each in a file of its own."""
