"""What measures candidates: this machine's CPU or GPU."""
