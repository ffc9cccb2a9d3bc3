"""Benchmarks side by side: `python -m benchmarks`."""
