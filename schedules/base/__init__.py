"""What a kernel and a rule are, and what describes them."""
