"""Benchmarks: each prints its figure beside the bare limit and a peer, measured in one run."""
