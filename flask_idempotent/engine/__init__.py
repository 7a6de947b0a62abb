"""The engine: one run for each key, and its response for everybody else. It knows no framework."""
