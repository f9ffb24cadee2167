"""May this location text this patient? ALLOWED, SUPPRESSED, or UNKNOWN, which means: hold the message and ask again."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import NoScriptError

from consumer.domain.buckets import DEFAULT_BUCKETS
from consumer.domain.phone import is_region
from consumer.guard import confirming, question
from consumer.guard.answer import Rules
from consumer.guard.checking import alone, check
from consumer.guard.confirming import claim
from consumer.guard.connecting import Connecting
from consumer.guard.counts import Tally
from consumer.guard.lines import Line
from consumer.guard.question import next_word
from consumer.guard.verdict import NotAllowed, Unknown, VerdictKind
from consumer.nodes import ask, by_client, deadline, nodes_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import redis

    from consumer.guard.checking import Checked, Steps
    from consumer.guard.question import Call
    from consumer.guard.verdict import Verdict
    from consumer.nodes import Command, Keyed, Mode, Node, Nodes

DEFAULT_MAX_STALENESS = 300.0
LONGEST_TIMEOUT = 3600.0


class Questions:
    """What both guards know: how numbers are read, where locations live, and which answers are believed."""

    def __init__(self, buckets: int, max_staleness: float | None, region: str) -> None:
        """Raise ValueError for an age that is no positive number, and for buckets and a region that cannot be."""
        if max_staleness is not None and not 0 < max_staleness < math.inf:
            raise ValueError("max_staleness must be a positive number of seconds, or None to accept any age")
        if type(buckets) is not int or buckets < 1:
            raise ValueError("buckets must be a whole number from 1 on: that of the workers")
        if not is_region(region):
            raise ValueError("region must be a country's two letters of ISO 3166, as in US, GB, CA")
        self._buckets = buckets
        self._rules = Rules(max_staleness)
        self._region = region
        self.tally = Tally()
        """What was answered so far: `tally.counts()`, and `counts.register` for Prometheus."""

    def _of_location(self, location_id: str, numbers: Sequence[str], *, why: bool) -> list[Call]:
        place = question.checked_location(location_id)
        members, others = question.members_of(numbers, self._region)
        return question.of_location(place, members, self._buckets, why=why, others=others)

    def _of_confirmation(self, location_id: str, number: str, event_id: str) -> tuple[str, ...]:
        place, identity = question.checked_location(location_id), confirming.checked_event_id(event_id)
        (member,), others = question.members_of([number], self._region)
        return confirming.question(place, [member, *others.values()], identity, self._buckets, self._rules)

    def _of_each(self, pairs: Sequence[tuple[str, str]], *, why: bool) -> list[Call]:
        locations = [question.checked_location(location_id) for location_id, _ in pairs]
        members, others = question.members_of([number for _, number in pairs], self._region)
        return question.of_each(locations, members, self._buckets, why=why, others=others)


class Guard(Questions):
    """Asks the view. One round trip for a location; nothing is cached. Safe to share among threads, and to fork."""

    def __init__(
        self,
        client: redis.Redis | redis.RedisCluster | Nodes,
        *,
        buckets: int = DEFAULT_BUCKETS,
        max_staleness: float | None = DEFAULT_MAX_STALENESS,
        region: str = "US",
        timeout: float | None = None,
    ) -> None:
        """`max_staleness` in seconds; None accepts any age. `region` reads numbers without a country code.

        Buckets and region must be those of the workers. Raises ValueError for an age that is no positive number. Of a
        RedisCluster only its addresses and connection settings are used: primaries are asked, each once. A client of
        your own waits as long as you told it to; one that `from_url` makes keeps the `timeout` whatever happens.
        """
        super().__init__(buckets, max_staleness, region)
        self._nodes = nodes_of(client)
        self._lines: dict[str, Line] = {}
        self._timeout = LONGEST_TIMEOUT if timeout is None else timeout

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        timeout: float = 1.0,
        connect_timeout: float | None = None,
        mode: Mode = "standalone",
        service: str = "",
        sentinel_url: str = "",
        buckets: int = DEFAULT_BUCKETS,
        max_staleness: float | None = DEFAULT_MAX_STALENESS,
        region: str = "US",
    ) -> Self:
        """Return a guard for the Redis at this URL that answers each round trip within `timeout` seconds.

        It says UNKNOWN if need be. Of these seconds connecting takes at most `connect_timeout`. With mode `cluster` the
        URL names some nodes of a Redis Cluster, redis://user:password@n1:6379,n2:6379, of which one has to answer; with
        `sentinel` the Sentinels that watch over `service`, redis://user:password@s1:26379,s2:26379/0, and
        `sentinel_url` their own user and password, where they have any.
        A connection that was closed meanwhile is made once more; a Redis that does not answer is not asked again.
        Raises ValueError for what is no URL of a Redis.
        """
        connecting = Connecting(url, mode, service, sentinel_url, timeout, connect_timeout)
        return cls(connecting.nodes(), buckets=buckets, max_staleness=max_staleness, region=region, timeout=timeout)

    def check(self, location_id: str, number: str, *, why: bool = False, catch_up: float | None = None) -> Verdict:
        """Return the verdict for one patient.

        With `why` a SUPPRESSED one says since when, and by which keyword. With `catch_up` the verdict is given once the
        view holds everything that Kafka held when it was asked for, which takes about a second; after `catch_up`
        seconds nobody is ALLOWED (`behind`). Raises NotANumber for what is no phone number, ValueError for what is no
        location id.
        """
        (call,) = self._of_location(location_id, [number], why=why)
        if catch_up is not None:
            return self._answered([call], 1, catch_up)[0]
        began = time.perf_counter()
        with deadline(self._timeout):  # one for all of it, also where a server has to be asked twice
            verdict = self._alone(call)
            if verdict is None:
                return self._answered([call], 1, None)[0]
        self.tally.checked(time.perf_counter() - began, ((verdict.kind, verdict.reason, 1),))
        return verdict

    def check_many(
        self, location_id: str, numbers: Sequence[str], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        """Return the verdicts for many patients of a location, in order: as `check`."""
        return self._answered(self._of_location(location_id, numbers, why=why), len(numbers), catch_up)

    def check_each(
        self, pairs: Sequence[tuple[str, str]], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        """Return the verdicts for many pairs of location and number, in order: as `check`, in few round trips."""
        return self._answered(self._of_each(pairs, why=why), len(pairs), catch_up)

    def require(self, location_id: str, number: str, *, catch_up: float | None = None) -> Verdict:
        """Return the verdict if it is ALLOWED. Raises NotAllowed otherwise."""
        verdict = self.check(location_id, number, catch_up=catch_up)
        if verdict.kind is not VerdictKind.ALLOWED:
            raise NotAllowed(verdict)
        return verdict

    def claim_confirmation(self, location_id: str, number: str, event_id: str) -> Verdict:
        """Return ALLOWED if this confirmation may be sent: once, and within five minutes of the patient's text.

        `event_id` is that of the ConfirmationRequested. That of an opt-out passes although the patient is opted out.
        SUPPRESSED says that it must not be sent any more, UNKNOWN that nothing was taken or that the answer was lost:
        ask again. It needs a Redis user that may take passes, see `optout redis-acl`. Raises NotANumber, and ValueError
        for what is no location id or no event id.
        """
        asked = self._of_confirmation(location_id, number, event_id)
        (verdict,) = self._run(claim(asked, self._rules, self._doubted)).verdicts
        self.tally.claimed(verdict.kind, verdict.reason)
        return verdict

    def close(self) -> None:
        """Close the connections that are open. A question opens them anew."""
        for line in list(self._lines.values()):
            line.close()
        for node in self._nodes.connected():
            node.client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answered(self, calls: Sequence[Call], count: int, catch_up: float | None) -> list[Verdict]:
        began = time.perf_counter()
        found = self._run(check(calls, count, self._rules, catch_up, self._doubted))
        self.tally.checked(time.perf_counter() - began, found.told)
        return found.verdicts

    def _run(self, steps: Steps) -> Checked:
        answers: Any = None
        while True:
            try:
                wanted = steps.send(answers)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            if isinstance(wanted, float):
                time.sleep(wanted)
                answers = ()
            else:
                answers = self._asked(wanted)

    def _asked(self, commands: Sequence[Keyed]) -> list[Any]:
        with deadline(self._timeout):
            return ask(self._nodes, commands, self._sent, together=True)

    def _sent(self, node: Node, commands: Sequence[Command]) -> list[Any]:
        try:
            return self._line(node).ask_all(commands) if node.url else by_client(node, commands)
        except Exception as error:  # noqa: BLE001 - a client that trips over an answer must not end the sender
            return [error] * len(commands)

    def _alone(self, call: Call) -> Verdict | None:
        """Return the verdict where it can be had by the shortest way; None where more has to be asked."""
        node = self._nodes.known(call.keys[0])
        if node is None:
            return None
        word = next_word()
        command = call.command(word)[1]
        try:
            # A client of somebody's own is used as its owner made it.
            answer = self._line(node).ask(command) if node.url else node.client.execute_command(*command)  # type: ignore[no-untyped-call]
        except NoScriptError:
            return None
        except Exception as error:  # noqa: BLE001 - as above
            if self._nodes.failed(node, error):
                return None
            answer = error
        return alone(call, word, answer, self._rules, self._doubted)

    def _line(self, node: Node) -> Line:
        line = self._lines.get(node.name)
        return line or self._lines.setdefault(node.name, Line(node.client))

    def _doubted(self, key: str, reason: Unknown) -> None:
        node = self._nodes.known(key)
        if node is None:
            return
        self._nodes.doubted(node)
        if reason is Unknown.GARBLED:  # what was left on a connection would be the next one's answer for ever
            self._line(node).close() if node.url else node.client.connection_pool.disconnect(inuse_connections=False)
