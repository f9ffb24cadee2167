"""One worker of the product's own parts, moved by hand, on a broker in memory and a Redis that may lose its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from structlog.testing import CapturingLogger

from consumer.applier import Applier
from consumer.changes import Changes
from consumer.classifier import Classifier
from consumer.domain.keywords import Keywords
from consumer.domain.skips import Skips
from consumer.inbound import Inbound
from consumer.intake import Intake, Topics
from consumer.kafka.committed import KeptOffsets
from consumer.kafka.inbox import Inbox
from consumer.kafka.offsets import Offsets, OffsetsUnavailable
from consumer.kafka.producers import LedgerProducer, TransactionalOutbox
from consumer.keeper import Keeper
from consumer.passage import Passage
from consumer.published import Published
from consumer.publisher import Publisher
from consumer.skips import Allowed
from consumer.suppression.scripts import ViewUnavailable
from consumer.suppression.view import View
from consumer.voucher import Voucher
from tests.machine.servers import Client
from tests.parts.fake_kafka import Admin
from tests.parts.system import TOPICS, Ops, Rounds

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from consumer.kafka.inbox import Partition
    from consumer.ledger import Ledger
    from consumer.wire.codec import Codec
    from tests.machine.servers import Servers
    from tests.parts.fake_kafka import Broker, Consumer, Producer

CLASSIFIERS = "classify"
STEPS = ("classify", "commit", "keep", "apply", "publish", "vouch")


def _nowhere(partition: Partition, offset: int, limit: int) -> int:
    """Never asked: there are no skips here."""
    raise AssertionError(partition, offset, limit)


class Worker:
    """Both stages of one process. What it is made of is built here and nowhere else.

    `zombie`: the groups have taken it for dead, and it does not know.
    """

    def __init__(self, broker: Broker, servers: Servers, codec: Codec, ledger: Ledger) -> None:
        self.broker = broker
        self.logger = CapturingLogger()
        self.ops = Ops(self.logger)
        self.alive = True
        self.zombie = False
        log = cast("FilteringBoundLogger", self.logger)
        self._classify(codec, ledger, log)
        self._apply(View(Client(servers), buckets=ledger.buckets, ledger=ledger.identity), codec, ledger, log)

    def _classify(self, codec: Codec, ledger: Ledger, log: FilteringBoundLogger) -> None:
        intake = Intake(
            codec=codec,
            keywords=Keywords(),
            topics=Topics(
                ledger=TOPICS["ledger"],
                reviews=TOPICS["reviews"],
                dead_letters=TOPICS["dead"],
                requests=TOPICS["requests"],
            ),
            buckets=ledger.buckets,
            region="US",
            now=lambda: self.broker.clock.now_ms,
        )
        self.ledger_producer = LedgerProducer({}, lambda *_: None)
        self.classifier = Classifier(
            passage=Passage(Allowed([Skips(TOPICS["inbound"], "")]), _nowhere, metrics=self.ops.metrics, log=log),
            intake=intake,
            producer=self.ledger_producer,
            inbound=Inbound([TOPICS["inbound"]], ledger.topic_id),
            kept=KeptOffsets({}, CLASSIFIERS),
            metrics=self.ops.metrics,
            health=self.ops.health,
            log=log,
        )
        self.inbound = Inbox({"group.id": CLASSIFIERS}, lambda *_: None)
        self.inbound.subscribe([TOPICS["inbound"]], self.classifier)
        self.keeper = Keeper(self.classifier, self.inbound.copy, KeptOffsets({}, CLASSIFIERS), log)
        self.classifier.run(self.inbound, Rounds(0))

    def _apply(self, view: View, codec: Codec, ledger: Ledger, log: FilteringBoundLogger) -> None:
        changes = Changes(ledger, codec, changed=TOPICS["changed"], confirmations=None)
        self.inbox = Inbox({"group.id": ledger.group}, lambda *_: None)
        self.publisher = Publisher(
            view=view,
            inbox=self.inbox,
            committed=Published({}, ledger.group, ledger.topic_id, TOPICS["changed"], log),
            outbox=TransactionalOutbox({}),
            render=changes.records,
            ledger=ledger.topic,
            **self.ops.everywhere(),
            log=log,
        )
        self.voucher = Voucher(
            view=view,
            inbox=self.inbox,
            offsets=Offsets(cast("Any", Admin(self.broker)), KeptOffsets({}, CLASSIFIERS)),
            ledger=ledger,
            inbound=Inbound([TOPICS["inbound"]], ledger.topic_id),
            published=self.publisher.published,
            topic_id=lambda: ledger.topic_id,
            unsafe=list,
            **self.ops.everywhere(),
            log=log,
        )
        self.applier = Applier(
            passage=Passage(
                Allowed([Skips(ledger.topic, ledger.topic_id)]), _nowhere, metrics=self.ops.metrics, log=log
            ),
            view=view,
            ledger=ledger,
            published=self.publisher.published,
            notice_publisher=self.publisher.notice,
            take_doubts=self.voucher.take_doubts,
            wake_voucher=self.voucher.wake,
            look_at_ledger=self.voucher.look_at_ledger,
            **self.ops.everywhere(),
            log=log,
        )
        self.inbox.subscribe([ledger.topic], self.applier)

    @property
    def consumers(self) -> list[Consumer]:
        """Its members of the two groups."""
        return [cast("Consumer", inbox._consumer) for inbox in (self.inbound, self.inbox)]

    def step(self, what: str) -> None:
        """Do one of STEPS."""
        getattr(self, what)()

    def classify(self) -> None:
        """Read a batch and write what it becomes."""
        self.classifier.step(self.inbound.read(500, 0))

    def deliver(self, records: int) -> None:
        """Let the first records that it wrote arrive in the ledger, as a client's own thread does at any time."""
        cast("Producer", self.ledger_producer._producer).deliver(records)

    def stick(self, *, stuck: bool) -> None:
        """Let nothing that it writes be acknowledged; or again."""
        cast("Producer", self.ledger_producer._producer).stuck = stuck

    def commit(self) -> None:
        """Commit what is classified."""
        self.classifier.commit()

    def keep(self) -> None:
        """Keep what is committed where no stranger overwrites it."""
        self.keeper.keep()

    def apply(self) -> None:
        """Go round the applier's loop."""
        self.applier.run(self.inbox, Rounds(1))

    def publish(self) -> None:
        """Publish what waits."""
        self.publisher.publish_waiting()

    def vouch(self) -> None:
        """Make one pass, as the voucher's loop does."""
        try:
            self.voucher.vouch()
        except (ViewUnavailable, OffsetsUnavailable):
            self.voucher._whole = False

    def freeze(self) -> None:
        """Fall silent: the process is dead, or stopped, and the groups have not noticed."""
        for consumer in self.consumers:
            consumer.member.frozen = True

    def be_taken_for_dead(self) -> None:
        """Lose the membership of both groups without hearing of it."""
        self.zombie = True
        for consumer in self.consumers:
            consumer.hears = False
            consumer._group.remove(consumer.member)

    def hear(self) -> None:
        """Learn, with the next read, that the groups took it for dead."""
        self.zombie = False
        for consumer in self.consumers:
            consumer.hears = True
