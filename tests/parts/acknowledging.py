"""A real producer whose acknowledgements are heard when a test says so: they overtake each other, or come late."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

    from confluent_kafka import Producer

    from consumer.kafka.producers import LedgerProducer


class HeldBack:
    """Stands before the client of a LedgerProducer. What `holds` says of a key is written, and not heard of."""

    def __init__(self, producer: LedgerProducer, holds: Callable[[bytes], bool]) -> None:
        self._client: Any = producer._producer
        self._holds = holds
        self._held: list[Callable[[], None]] = []
        producer._producer = cast("Producer", self)

    def produce(self, topic: str, *, key: bytes, on_delivery: Callable[..., None], **fields: Any) -> None:
        def heard(error: object, message: object) -> None:
            if self._holds(key):
                self._held.append(lambda: on_delivery(error, message))
            else:
                on_delivery(error, message)

        self._client.produce(topic, key=key, on_delivery=heard, **fields)

    def __len__(self) -> int:
        return len(self._client) + len(self._held)

    @property
    def held(self) -> int:
        """How many acknowledgements are there and not heard of."""
        return len(self._held)

    def release(self, first: int | None = None) -> None:
        """Let what is held back be heard now, the last one first: everything, or the so many that came first."""
        held = self._held[:first]
        self._held = self._held[len(held) :]
        for heard in reversed(held):
            heard()

    def poll(self, timeout: float) -> int:
        return int(self._client.poll(timeout))

    def flush(self, timeout: float) -> int:
        return int(self._client.flush(timeout)) + len(self._held)
