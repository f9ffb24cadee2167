"""What outbound producers ask before each send. Needs redis and the phone library, and nothing of Kafka or Avro."""

from consumer.guard.guard import Guard, NotAllowed, Unknown, Verdict, VerdictKind

__all__ = ["Guard", "NotAllowed", "Unknown", "Verdict", "VerdictKind"]
