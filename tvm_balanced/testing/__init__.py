"""Operands for trying out kernels, and a way to run GPU kernels without a GPU."""
