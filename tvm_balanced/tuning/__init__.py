"""Tuning: search the best decisions for each kernel of a model, and keep the results in a log for each target key."""
