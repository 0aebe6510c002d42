"""Shipped tuning logs, one folder for each target key. Data only."""
