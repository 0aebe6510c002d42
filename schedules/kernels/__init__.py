"""Kernels for dense layers, one file each."""
