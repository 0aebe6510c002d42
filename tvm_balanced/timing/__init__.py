"""Timing kernels, modules and this machine."""
