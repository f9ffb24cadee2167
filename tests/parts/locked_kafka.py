"""A broker that refuses what no rule allows, where each user has a password; nobody asks who a test is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.parts.kafka import KafkaCluster
from tests.parts.ports import HOST, free_ports

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.parts.broker import Installation


class LockedKafka(KafkaCluster):
    """One broker with an authorizer. `bootstrap` is for a test, who may do everything; `door` is for its users."""

    def __init__(self, installation: Installation, users: Sequence[str]) -> None:
        self._users = users
        (self._port,) = free_ports(1)
        super().__init__(installation, 1, self._locked)

    @property
    def door(self) -> str:
        """Where users log in."""
        return f"{HOST}:{self._port}"

    def login(self, user: str) -> dict[str, str]:
        """Return the properties with which a client is this user."""
        return {
            "bootstrap.servers": self.door,
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": user,
            "sasl.password": f"{user}-password",
        }

    def _locked(self, settings: dict[str, str | int]) -> dict[str, str | int]:
        known = " ".join(f'user_{user}="{user}-password"' for user in self._users)
        return {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": "User:ANONYMOUS",
            "listeners": f"{settings['listeners']},DOOR://{self.door}",
            "advertised.listeners": f"{settings['advertised.listeners']},DOOR://{self.door}",
            "listener.security.protocol.map": f"{settings['listener.security.protocol.map']},DOOR:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "PLAIN",
            "listener.name.door.plain.sasl.jaas.config": (
                f"org.apache.kafka.common.security.plain.PlainLoginModule required {known};"
            ),
        }
