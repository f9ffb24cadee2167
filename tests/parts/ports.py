"""Ports for servers that come back on the same one."""

import random
import socket

HOST = "127.0.0.1"
# Below what Linux and macOS give to outgoing connections: one of those could take the port while its server is down,
# and a client that keeps trying a port nobody listens on can even end up connected to itself.
LOWEST, HIGHEST = 20_000, 29_999


def free_ports(count: int) -> list[int]:
    """Return different loopback ports on which nobody listens."""
    candidates = random.SystemRandom().sample(range(LOWEST, HIGHEST + 1), HIGHEST + 1 - LOWEST)
    free = (port for port in candidates if _is_free(port))
    return [next(free) for _ in range(count)]


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a JVM binds
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True
