"""Integrations with other tools, each in its own module."""
