"""Tuning logs: records, files, tools."""
