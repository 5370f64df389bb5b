"""Many machines: whose turn it is, on which thread, within which limits."""
