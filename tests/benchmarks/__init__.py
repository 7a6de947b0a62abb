"""Benchmarks: what a request costs, compared with bare Flask and a peer; see `make bench`."""
