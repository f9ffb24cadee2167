"""How single settings are written."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from consumer.domain.phone import is_region

if TYPE_CHECKING:
    from pydantic import SecretStr

LOOPBACK = "127.0.0.1"
HIGHEST_PORT = 65_535
SERVE_LISTEN = f"{LOOPBACK}:9465"
SHORTEST_TOKEN = 16


def listed(value: object) -> object:
    """Return the parts of a text with commas."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def region(value: str) -> str:
    """Return a country code. Raises ValueError for what is none."""
    if not is_region(value):
        raise ValueError("there is no such country code; write the two letters of ISO 3166, as in US, GB, CA")
    return value


def address(value: object) -> object:
    """Return (host, port) of host:port, [host]:port or a port alone. Raises ValueError for what is no address."""
    if value is None or isinstance(value, tuple):
        return value
    written = str(value).strip()
    if not written:
        return None  # as compose files give what nobody set
    host, _, port = written.rpartition(":")
    in_brackets = host.startswith("[") and host.endswith("]")
    if not (port.isascii() and port.isdigit() and int(port) <= HIGHEST_PORT) or (":" in host) is not in_brackets:
        raise ValueError("write host:port, as in 127.0.0.1:9464, [::1]:9464, or 0.0.0.0:9464 for other machines to ask")
    return host.removeprefix("[").removesuffix("]") or LOOPBACK, int(port)


def serve_address(value: object) -> object:
    """Return (host, port), of nothing the default: as compose files give what nobody set."""
    return address(value) or address(SERVE_LISTEN)


def token(value: SecretStr | None) -> SecretStr | None:
    """Return a token that can be shown in a header. Raises ValueError for one that cannot, or can be guessed."""
    written = value.get_secret_value() if value is not None else ""
    if not written:
        return None
    if not re.fullmatch(rf"[!-~]{{{SHORTEST_TOKEN},}}", written):
        raise ValueError(
            f"write at least {SHORTEST_TOKEN} characters of ASCII without white space, as `openssl rand -hex 32` does"
        )
    return value
