"""Rules for TVM's own operators, one file each."""
