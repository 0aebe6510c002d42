"""What everything else is built on: patterns, encoded weights, specifications, checks. Imports NumPy alone."""
