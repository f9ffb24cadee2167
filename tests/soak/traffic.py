"""Patients who text: keywords, talk and near misses, late, twice, and again through a second topic without a key."""

from __future__ import annotations

import heapq
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, Self

from confluent_kafka import Producer

from tests.parts import oracle
from tests.parts.system import inbound
from tests.soak.records import Text

if TYPE_CHECKING:
    from confluent_kafka import Message

    from tests.parts.oracle import Subscription
    from tests.parts.system import System

LOCATIONS, PATIENTS = 48, 16
TICK_S = 0.05
OUT = ("STOP", "stop ", "Stop", "quit", "End", "cancel", "UNSUBSCRIBE", " stopall")
BACK = ("Start", "UNSTOP", "yes", "START\n")
TALK = ("see you at 3", "stop messages", "Stop.", "thanks!", "UNSUB", "can I move my appointment? my son is ill")
KEYWORDS, OUTS, LATE, TWICE, SECOND_TOPIC = 0.25, 0.55, 0.1, 0.03, 0.1
LATEST_S, DELAY_S = 5.0, 8.0


def patients() -> list[Subscription]:
    """Return every patient of every location."""
    return [(f"loc-{place}", f"+1202555{place:02d}{one:02d}") for place in range(LOCATIONS) for one in range(PATIENTS)]


class Traffic:
    """A producer that writes so many texts a second in a thread, and remembers every keyword and when it was sent."""

    def __init__(self, system: System, seed: int, per_second: float) -> None:
        self._system = system
        self._chance = random.Random(seed)
        self._per_second = per_second
        self._everybody = patients()
        self._producer = Producer(
            {
                "bootstrap.servers": system.bootstrap,
                "linger.ms": 5,
                "enable.idempotence": True,
                "message.timeout.ms": 0,
                "logger": system.client()["logger"],
            }
        )
        self._later: list[tuple[float, int, bool, dict[str, Any]]] = []
        self._count = 0
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)
        self.texts: list[Text] = []
        self.recent: deque[Subscription] = deque(maxlen=60)
        self.acked = 0
        self.failed = 0
        self._unplaced: dict[tuple[str | None, bytes], Text] = {}
        """What Kafka had already when it was sent again, by topic and content: it does not say where, then."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish(1)

    def finish(self, seconds: float) -> int:
        """Send what is still to be sent, wait until Kafka has all of it, and return how many texts it does not have."""
        self._stop.set()
        self._thread.join()
        with self._lock:
            while self._later:
                self._send_later()
        left = self._producer.flush(seconds)
        if self._unplaced:
            self._place()
        return left + self.failed + len(self._unplaced)

    def _place(self) -> None:
        """Find out where the texts stand of which Kafka did not say it."""
        for role in ("inbound", "second"):
            for message in self._system.messages(role):
                text = self._unplaced.pop((message.topic(), message.value() or b""), None)
                topic, partition, offset = message.topic(), message.partition(), message.offset()
                if text is not None and topic is not None and partition is not None and offset is not None:
                    text.place = (topic, partition, offset)

    def stop_now(self, patient: Subscription) -> None:
        """Let this patient text STOP at this very moment."""
        self.send(inbound(*patient, "STOP"))

    def send(self, message: dict[str, Any]) -> None:
        """Send a text at this very moment."""
        with self._lock:
            self._send(message, keyed=True)

    def _run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._stop.wait(TICK_S):
            due = int((time.monotonic() - began) * self._per_second)
            with self._lock:
                for _ in range(due - sent):
                    self._one()
                while self._later and self._later[0][0] <= time.monotonic():
                    self._send_later()
            sent = due
            self._producer.poll(0)

    def _one(self) -> None:
        chance = self._chance
        patient = chance.choice(self._everybody)
        body = chance.choice(TALK)
        if chance.random() < KEYWORDS:
            body = chance.choice(OUT if chance.random() < OUTS else BACK)
        late = chance.uniform(0, LATEST_S) if chance.random() < LATE else 0.0
        message = inbound(*patient, body, received_at=time.time_ns() // 1_000_000 - int(late * 1000))
        self._send(message, keyed=True)
        if chance.random() < TWICE:
            self._repeat({**message, "message_id": f"{message['message_id']}-again"}, keyed=True)
        if chance.random() < SECOND_TOPIC:
            self._repeat(message, keyed=False)

    def _repeat(self, message: dict[str, Any], *, keyed: bool) -> None:
        self._count += 1
        due = time.monotonic() + self._chance.choice((0.0, self._chance.uniform(0, DELAY_S)))
        heapq.heappush(self._later, (due, self._count, keyed, message))

    def _send_later(self) -> None:
        *_, keyed, message = heapq.heappop(self._later)
        self._send(message, keyed=keyed)

    def _send(self, message: dict[str, Any], *, keyed: bool) -> None:
        patient = (message["location_id"], message["patient_number"])
        word = message["body"].strip().lower()
        text = Text(patient, word in oracle.OUT, message["received_at"], time.monotonic())
        if word in oracle.OUT | oracle.BACK:
            self.texts.append(text)
            self.recent.append(patient)

        def delivered(error: object, stored: Message) -> None:
            topic, partition, offset = stored.topic(), stored.partition(), stored.offset()
            if error or topic is None or partition is None:
                self.failed += 1
                return
            self.acked += 1
            text.acked = time.monotonic()
            if offset is None:
                self._unplaced[topic, value] = text
            else:
                text.place = (topic, partition, offset)

        topic = self._system.topics["inbound" if keyed else "second"]
        key = ":".join(patient) if keyed else None
        value = self._system.text(message)
        self._producer.produce(topic, value, key, on_delivery=delivered)
