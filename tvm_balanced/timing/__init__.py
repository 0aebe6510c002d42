"""Time kernels, modules and this machine."""
