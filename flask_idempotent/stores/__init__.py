"""Stores: where records live, behind the contract in ``base.py``."""
