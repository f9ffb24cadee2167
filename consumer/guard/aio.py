"""The guard for programs that run on asyncio: the same questions, rules and verdicts as Guard's."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Self

from redis.exceptions import NoScriptError, RedisError, TryAgainError

from consumer.domain.buckets import DEFAULT_BUCKETS
from consumer.guard.awaited import awaited
from consumer.guard.checking import alone, check
from consumer.guard.confirming import claim
from consumer.guard.connecting import AT_ONCE, Connecting
from consumer.guard.guard import DEFAULT_MAX_STALENESS, Questions
from consumer.guard.lines import AsyncLine
from consumer.guard.question import next_word
from consumer.guard.verdict import NotAllowed, Unknown, VerdictKind
from consumer.nodes import deadline

if TYPE_CHECKING:
    from collections.abc import Sequence

    from consumer.guard.checking import Checked, Steps
    from consumer.guard.question import Call
    from consumer.guard.verdict import Verdict
    from consumer.nodes import Command, Keyed, Mode, Node


class AsyncGuard(Questions):
    """Asks the view. One round trip for a location; nothing is cached. Safe to share among tasks.

    Connections belong to the event loop that they were made in; asked in another loop it makes others.
    """

    def __init__(
        self,
        connecting: Connecting,
        *,
        buckets: int = DEFAULT_BUCKETS,
        max_staleness: float | None = DEFAULT_MAX_STALENESS,
        region: str = "US",
    ) -> None:
        """As `from_url`, which is the usual way to make one."""
        super().__init__(buckets, max_staleness, region)
        self._connecting = connecting
        self._nodes = connecting.nodes()
        self._timeout = connecting.timeout
        self._lines: dict[asyncio.AbstractEventLoop, dict[Node, AsyncLine]] = {}

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
        """Return a guard for the Redis at this URL: as Guard.from_url. Raises ValueError for what is no such URL."""
        connecting = Connecting(url, mode, service, sentinel_url, timeout, connect_timeout)
        return cls(connecting, buckets=buckets, max_staleness=max_staleness, region=region)

    @awaited
    async def check(
        self, location_id: str, number: str, *, why: bool = False, catch_up: float | None = None
    ) -> Verdict:
        """Return the verdict for one patient: as Guard.check. Raises NotANumber and ValueError."""
        (call,) = self._of_location(location_id, [number], why=why)
        if catch_up is not None:
            return (await self._answered([call], 1, catch_up))[0]
        began = time.perf_counter()
        until = self._until()  # one for all of it, also where a server has to be asked twice
        verdict = await self._alone(call, until)
        if verdict is None:
            return (await self._answered([call], 1, None, until))[0]
        self.tally.checked(time.perf_counter() - began, ((verdict.kind, verdict.reason, 1),))
        return verdict

    @awaited
    async def check_many(
        self, location_id: str, numbers: Sequence[str], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        """Return the verdicts for many patients of a location, in order: as `check`.

        A number that is not written in E.164 takes some 20 us to read, in which the loop waits.
        """
        return await self._answered(self._of_location(location_id, numbers, why=why), len(numbers), catch_up)

    @awaited
    async def check_each(
        self, pairs: Sequence[tuple[str, str]], *, why: bool = False, catch_up: float | None = None
    ) -> list[Verdict]:
        """Return the verdicts for many pairs of location and number, in order: as `check`, in few round trips."""
        return await self._answered(self._of_each(pairs, why=why), len(pairs), catch_up)

    @awaited
    async def require(self, location_id: str, number: str, *, catch_up: float | None = None) -> Verdict:
        """Return the verdict if it is ALLOWED. Raises NotAllowed otherwise."""
        verdict = await self.check(location_id, number, catch_up=catch_up)
        if verdict.kind is not VerdictKind.ALLOWED:
            raise NotAllowed(verdict)
        return verdict

    @awaited
    async def claim_confirmation(self, location_id: str, number: str, event_id: str) -> Verdict:
        """Return ALLOWED if this confirmation may be sent, once: as Guard.claim_confirmation."""
        asked = self._of_confirmation(location_id, number, event_id)
        (verdict,) = (await self._run(claim(asked, self._rules, self._doubted))).verdicts
        self.tally.claimed(verdict.kind, verdict.reason)
        return verdict

    async def aclose(self) -> None:
        """Close the connections of this event loop. A question opens them anew."""
        for line in self._lines.pop(asyncio.get_running_loop(), {}).values():
            await line.close()
        for node in self._nodes.connected():  # by which the slots of a cluster are learned
            node.client.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def _answered(
        self, calls: Sequence[Call], count: int, catch_up: float | None, until: float | None = None
    ) -> list[Verdict]:
        began = time.perf_counter()
        found = await self._run(check(calls, count, self._rules, catch_up, self._doubted), until)
        self.tally.checked(time.perf_counter() - began, found.told)
        return found.verdicts

    async def _run(self, steps: Steps, until: float | None = None) -> Checked:
        answers: Any = None
        while True:
            try:
                wanted = steps.send(answers)
            except StopIteration as done:
                return done.value  # type: ignore[no-any-return]
            if isinstance(wanted, float):
                await asyncio.sleep(wanted)
                answers = ()
            else:
                answers = await self._asked(wanted, until or self._until())

    def _until(self) -> float:
        return asyncio.get_running_loop().time() + self._timeout

    async def _asked(self, commands: Sequence[Keyed], until: float) -> list[Any]:
        """Return what came back for each command: from all servers at the same time, each once."""
        answers: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for _ in range(2):
            left = await self._ask(commands, left, answers, until)
        return answers

    async def _ask(
        self, commands: Sequence[Keyed], places: Sequence[int], answers: list[Any], until: float
    ) -> list[int]:
        """Ask for what stands at these places, and return those that are to be asked for elsewhere."""
        by_node: dict[Node, list[int]] = {}
        for place in places:
            key = commands[place][0]
            try:
                by_node.setdefault(self._nodes.known(key) or await self._serving(key, until), []).append(place)
            except (RedisError, OSError) as error:
                answers[place] = error
        sent = [self._sent(node, [commands[i][1] for i in own], until) for node, own in by_node.items()]
        found = [await sent[0]] if len(sent) == 1 else await asyncio.gather(*sent)
        moved = []
        for (node, own), some in zip(by_node.items(), found, strict=True):
            for place, answer in zip(own, some, strict=True):
                answers[place] = answer
                if isinstance(answer, Exception) and self._nodes.failed(node, answer):
                    answers[place] = TryAgainError("the slot has moved")
                    moved.append(place)
        return moved

    async def _serving(self, key: str, until: float) -> Node:
        """Return who serves a key, where that is to be learned first, by a thread that keeps our deadline."""
        async with asyncio.timeout_at(until):
            return await asyncio.to_thread(self._serving_within, key, until - asyncio.get_running_loop().time())

    def _serving_within(self, key: str, seconds: float) -> Node:
        with deadline(seconds):
            return self._nodes.serving(key)

    async def _sent(self, node: Node, commands: Sequence[Command], until: float) -> list[Any]:
        try:
            return await self._line(node).ask_all(commands, until)
        except Exception as error:  # noqa: BLE001 - a client that trips over an answer must not end the sender
            return [error] * len(commands)

    async def _alone(self, call: Call, until: float) -> Verdict | None:
        """Return the verdict where it can be had by the shortest way; None where more has to be asked."""
        node = self._nodes.known(call.keys[0])
        if node is None:
            return None
        word = next_word()
        try:
            answer = await self._line(node).ask(call.command(word)[1], until)
        except NoScriptError:
            return None
        except Exception as error:  # noqa: BLE001 - as above
            if self._nodes.failed(node, error):
                return None
            answer = error
        return alone(call, word, answer, self._rules, self._doubted)

    def _line(self, node: Node) -> AsyncLine:
        loop = asyncio.get_running_loop()
        lines = self._lines.get(loop)
        if lines is None:
            for other in list(self._lines):  # connections hold on to their loop: nothing else would let them go
                if other.is_closed():
                    self._lines.pop(other, None)
            lines = self._lines[loop] = {}
        line = lines.get(node)
        if line is None:
            line = lines[node] = AsyncLine(self._connecting.async_pool(node), AT_ONCE)
        return line

    def _doubted(self, key: str, reason: Unknown) -> None:
        node = self._nodes.known(key)
        if node is None:
            return
        self._nodes.doubted(node)
        if reason is Unknown.GARBLED:  # what was left on a connection would be the next one's answer for ever
            self._line(node).forget()
