"""Run compiled modules on an NVIDIA GPU."""
