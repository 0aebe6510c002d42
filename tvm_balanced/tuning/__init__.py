"""Tuning: search each kernel of a model for its best decisions, and keep what was found in a log for each target key."""
