"""Checking GPU kernels, with a GPU and without one."""
