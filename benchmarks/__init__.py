"""Benchmarks, one script per question: `python -m benchmarks.NAME`. They append to CSV files in benchmarks/data/."""
