"""A Kafka cluster in memory, moved by hand: no thread, no waiting. The product's own classes run on its clients.

What of a real cluster it stands in for is what `tests/contract/test_kafka_parts.py` holds both to.
"""

from tests.parts.fake_kafka.broker import Broker, Ending, Place, Record, Transaction
from tests.parts.fake_kafka.clients import Admin, Consumer, Producer
from tests.parts.fake_kafka.clock import Clock
from tests.parts.fake_kafka.installed import installed

__all__ = ["Admin", "Broker", "Clock", "Consumer", "Ending", "Place", "Producer", "Record", "Transaction", "installed"]
