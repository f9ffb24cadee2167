"""A consumer group of the classic protocol with cooperative rebalances: who is a member, who owns what, generations."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.fake_kafka.broker import Broker, Place


@dataclass(eq=False)
class Member:
    """A member as the group's coordinator knows it, and what its client has not told its owner yet.

    `frozen`: the process hears and says nothing (SIGSTOP, a dead machine), and nobody has noticed.
    """

    id: str
    topics: Sequence[str]
    generation: int = -1
    assigned: set[Place] = field(default_factory=set)
    heard: deque[tuple[str, list[Place]]] = field(default_factory=deque)
    frozen: bool = False
    rejoins: bool = False


class Group:
    """Members and committed offsets. A rebalance comes to its end when every member has done its part."""

    def __init__(self, name: str, broker: Broker) -> None:
        self.name = name
        self.generation = 0
        self.members: dict[str, Member] = {}
        self.committed: dict[Place, tuple[int, str]] = {}
        self._broker = broker
        self._unsettled = False
        self._wanted: dict[Place, str] = {}

    def join(self, topics: Sequence[str]) -> Member:
        """Let a new member in."""
        member = Member(self._broker.member_id(), topics)
        self.members[member.id] = member
        self._wanted.clear()
        self.rebalance()
        return member

    def remove(self, member: Member) -> None:
        """Take a member for gone: it left, or was not heard of for too long."""
        if self.members.pop(member.id, None) is not None:
            self._wanted.clear()
            self.rebalance()

    def rebalance(self, shift: int | None = None) -> None:
        """Begin a new generation as soon as all members can; with a shift the partitions are dealt out anew."""
        if shift is not None and self.members:
            ids = sorted(self.members)
            self._wanted = {p: ids[(i + shift) % len(ids)] for i, p in enumerate(self._places())}
        self._unsettled = True
        self.settle()

    def settle(self) -> None:
        """Bring a rebalance forward, as far as it can come."""
        for member in self.members.values():
            if member.rejoins and not member.heard:
                member.rejoins, self._unsettled = False, True
        if self._unsettled and not any(m.heard or m.frozen for m in self.members.values()):
            self._unsettled = False
            self._next_generation()

    def _next_generation(self) -> None:
        self.generation += 1
        target = self._target()
        free = set(self._places()).difference(*(member.assigned for member in self.members.values()))
        for member in self.members.values():
            member.generation = self.generation
            mine = {place for place, owner in target.items() if owner == member.id}
            given_up, received = member.assigned - mine, mine & free
            member.assigned = (member.assigned - given_up) | received
            if given_up:
                member.rejoins = True
                member.heard.append(("revoked", sorted(given_up)))
            if received or not given_up:
                member.heard.append(("assigned", sorted(received)))

    def _places(self) -> list[Place]:
        topics = sorted({topic for member in self.members.values() for topic in member.topics})
        return self._broker.places(topics)

    def _target(self) -> dict[Place, str]:
        """Return who is to own what: as it was wanted, else as it is, and nobody much more than another."""
        if not self.members:
            return {}
        now = {place: member.id for member in self.members.values() for place in member.assigned}
        target: dict[Place, str] = {}
        load = dict.fromkeys(sorted(self.members), 0)
        for place in self._places():
            owner = self._wanted.get(place) or now.get(place)
            if owner in load:
                target[place] = owner
                load[owner] += 1
        for place in self._places():
            if place not in target:
                target[place] = min(load, key=lambda owner: load[owner])
                load[target[place]] += 1
        while not self._wanted and max(load.values()) - min(load.values()) > 1:
            most, least = max(load, key=lambda o: load[o]), min(load, key=lambda o: load[o])
            target[next(place for place, owner in sorted(target.items()) if owner == most)] = least
            load[most] -= 1
            load[least] += 1
        return target

    def error(self, member: str, generation: int) -> int | None:
        """Return the error for whoever commits as this member of this generation. Who owns what is not looked at."""
        if member not in self.members:
            return KafkaError.UNKNOWN_MEMBER_ID
        return None if generation == self.generation else KafkaError.ILLEGAL_GENERATION
