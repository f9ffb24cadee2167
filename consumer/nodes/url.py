"""URLs of Redis: what is understood of one, and whose address it names. No text of an error quotes a URL."""

from __future__ import annotations

import math
import re
import ssl
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from redis.connection import SSLConnection

DEFAULT_PORT = 6379
OPTIONS = frozenset(
    {
        "client_name",
        "db",
        "decode_responses",
        "health_check_interval",
        "legacy_responses",
        "lib_name",
        "lib_version",
        "max_connections",
        "password",
        "protocol",
        "retry_on_timeout",
        "socket_connect_timeout",
        "socket_keepalive",
        "socket_read_size",
        "socket_timeout",
        "ssl_ca_certs",
        "ssl_ca_data",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_exclude_verify_flags",
        "ssl_include_verify_flags",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
        "username",
    }
)
"""redis-py's options that can be said in a URL. Others need objects, and fail when they are used; with `encoding` keys
would be other keys."""
SCHEMES = ("redis://", "rediss://", "unix://")
_NONE = "the URL is none of a Redis, as redis://user:password@host:port/0 is one"
_HOST = re.compile(r"[\w.-]+|[0-9A-Fa-f:.]+(?:%[\w.-]+)?")
_CLIENT_NAME = re.compile(r"[!-~]*")


class BadURL(ValueError):
    """What is no URL of a Redis, or of Sentinels. The text quotes nothing of it: that could be a part of a password."""


class BadAddress(redis.InvalidResponse):
    """What a server told as the address of another one is none. The text does not quote it."""


def check_url(url: str, *, names_servers: bool = True) -> None:
    """Raise BadURL for what is no URL of one or several servers, or names what cannot be read. Connects to nothing.

    Without `names_servers` it is one for user, password and options alone.
    """
    if not url.startswith(SCHEMES):
        raise BadURL(_NONE)
    try:
        url = url if names_servers else at_address(url, "localhost", DEFAULT_PORT)
        parts = urlsplit(url)
        names = {name for name, _ in parse_qsl(parts.query, keep_blank_values=True)}
        first = url if parts.scheme == "unix" else at_address(url, *addresses(url)[0])
    except BadURL:
        raise
    except (ValueError, redis.RedisError):
        raise BadURL(_NONE) from None
    database = unquote(parts.path).replace("/", "")
    if parts.scheme != "unix" and database and not (database.isascii() and database.isdigit()):
        raise BadURL("a database is named by its number")  # redis-py would take it for number 0
    if not names <= OPTIONS:
        raise BadURL("the URL has an option that is not taken; a ? in a password is written %3F")
    try:
        pool = redis.Redis.from_url(first).connection_pool
        pool.make_connection()
    except Exception:  # noqa: BLE001 - what an option that is wrong leads to is anything, and quotes it
        raise BadURL(_NONE) from None
    how = pool.connection_kwargs
    waits = [how[name] for name in ("socket_timeout", "socket_connect_timeout") if how.get(name) is not None]
    if not all(0 < seconds < math.inf for seconds in waits) or not _CLIENT_NAME.fullmatch(how.get("client_name") or ""):
        raise BadURL(_NONE)
    if issubclass(pool.connection_class, SSLConnection):
        _check_tls(**{name: value for name, value in pool.connection_kwargs.items() if name.startswith("ssl_")})


def _check_tls(
    *,
    ssl_certfile: str | None = None,
    ssl_keyfile: str | None = None,
    ssl_password: str = "",
    ssl_ca_certs: str | None = None,
    ssl_ca_data: str | None = None,
    ssl_ca_path: str | None = None,
    ssl_ciphers: str | None = None,
    ssl_min_version: int | None = None,
    **_others: object,
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if ssl_certfile or ssl_keyfile:
            context.load_cert_chain(ssl_certfile or "", ssl_keyfile, ssl_password)  # without a password it would ask us
        if ssl_ca_certs or ssl_ca_data:
            context.load_verify_locations(cafile=ssl_ca_certs, cadata=ssl_ca_data)
        if ssl_ciphers:
            context.set_ciphers(ssl_ciphers)
        if ssl_min_version is not None:
            context.minimum_version = ssl.TLSVersion(ssl_min_version)
        readable = not ssl_ca_path or Path(ssl_ca_path).is_dir()
    except (OSError, ValueError, TypeError):
        readable = False
    if not readable:
        raise BadURL("a certificate, key, authority, cipher or version of TLS that the URL names cannot be read")


def addresses(url: str, default_port: int = DEFAULT_PORT) -> list[tuple[str, int]]:
    """Return the hosts and ports that a URL names, with commas: redis://user:password@a:1,b:2/0. Raises BadURL."""
    try:
        return [_address(text, default_port) for text in urlsplit(url).netloc.rpartition("@")[2].split(",")]
    except (ValueError, BadAddress):
        raise BadURL("a server is named as host:port, and not left out") from None


def _address(text: str, default_port: int) -> tuple[str, int]:
    parts = urlsplit(f"redis://{text}")
    return checked_address(parts.hostname or "", default_port if parts.port is None else parts.port)


def checked_address(host: str, port: int) -> tuple[str, int]:
    """Return an address that a server told us. Raises BadAddress for what is none.

    It becomes a part of a URL, in which signs have a meaning: redis://?:6379 is this machine's own Redis.
    """
    try:
        if ":" in host:
            ip_address(host)
        else:
            host.encode("idna")  # as the resolver does
        named = _HOST.fullmatch(host) is not None
    except ValueError:
        named = False
    if not named or not 0 < port < 1 << 16:
        raise BadAddress("a server told an address that is none")
    return host, port


def at_address(url: str, host: str, port: int) -> str:
    """Return the URL with another host and port; user, password, database and options stay. Raises BadAddress."""
    checked_address(host, port)
    parts = urlsplit(url)
    credentials, at, _ = parts.netloc.rpartition("@")
    shown = f"[{host}]" if ":" in host else host
    return parts._replace(netloc=f"{credentials}{at}{shown}:{port}").geturl()
