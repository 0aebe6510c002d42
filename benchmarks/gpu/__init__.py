"""The GPU run-book: checks and measurements on a machine with a GPU, most valuable first, within a
budget; see benchmarks/README.md.
"""
