"""The Kafka client, wrapped: with `embedded`, the only code that knows confluent_kafka."""
