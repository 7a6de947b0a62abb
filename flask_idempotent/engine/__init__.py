"""The engine: one run for each key, and its response for all others. It depends on no framework."""
