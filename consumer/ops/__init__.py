"""What the on-call engineer sees."""
