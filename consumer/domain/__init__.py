"""The rules of the product, as pure functions: no client, clock, environment, log or metric is known here."""
