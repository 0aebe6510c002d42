"""The GPU run-book: what is run on a machine with a GPU, in the order of its worth, within a budget; see benchmarks/README.md."""
