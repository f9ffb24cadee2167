"""Setting how far our groups have come, by an operator who knows what is given up by it."""
