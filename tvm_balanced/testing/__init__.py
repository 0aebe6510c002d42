"""Operands to try kernels on, and what runs GPU kernels without a GPU."""
