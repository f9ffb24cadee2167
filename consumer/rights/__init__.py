"""Who may do what in Redis and in Kafka: the users of the parts, each with no more rights than its part needs."""
