"""Benchmarks of one kernel or a whole model against PyTorch."""
