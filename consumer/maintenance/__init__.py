"""A planned stop of all workers: announced, limited in time, and written down."""
