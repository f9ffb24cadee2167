"""The view: what Redis holds of each bucket, and the scripts that change it. With `guard`, all that knows Redis."""
