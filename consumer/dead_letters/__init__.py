"""The dead letters, for whoever looks after them: list them, look at one, send them back to where they came from."""
