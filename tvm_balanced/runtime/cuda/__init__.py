"""Running compiled modules on an NVIDIA GPU."""
