"""Runners: they measure candidates on this machine's CPU or GPU."""
