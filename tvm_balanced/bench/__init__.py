"""Benchmarks of one kernel or a whole model beside PyTorch."""
