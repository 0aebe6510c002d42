"""Passes that mend what TVM 0.27 does wrong; each names the fault and when it may go."""
