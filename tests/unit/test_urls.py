"""URLs of Redis: what cannot work is refused when it is read, in a sentence that holds nothing of it."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

import pytest

from consumer.guard import AsyncGuard, Guard
from consumer.nodes import sentinel_at
from consumer.nodes.url import BadAddress, BadURL, addresses, at_address, check_url, checked_address

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2"


def refused(url: str, match: str | None = None) -> None:
    with pytest.raises(BadURL, match=match) as raised:
        check_url(url)
    assert SECRET not in "".join(traceback.format_exception(raised.value)).rpartition("BadURL")[2]
    for kind in (Guard, AsyncGuard):
        with pytest.raises(BadURL):
            kind.from_url(url)


@pytest.mark.parametrize(
    "option",
    [
        "encoding=latin-1",
        "encoding_errors=ignore",
        "retry=1",
        "retry_on_error=x",
        "credential_provider=x",
        "cache=1",
        "maint_notifications_config=1",
        "ssl_validate_ocsp=true",
        f"{SECRET}=1",
    ],
)
def test_options_that_are_not_taken(option: str) -> None:
    """An option that redis-py takes for something else, or fails over much later, is refused at once."""
    refused(f"rediss://localhost/0?{option}", "option")


@pytest.mark.parametrize(
    "option",
    [
        "protocol=9",
        "socket_timeout=x",
        "socket_timeout=-1",
        "socket_timeout=0",
        "socket_timeout=nan",
        "socket_connect_timeout=inf",
        "timeout=1",
        "db=x",
        "client_name=a%20b",
    ],
)
def test_options_that_are_wrong(option: str) -> None:
    """An option with a value that it does not have is refused."""
    refused(f"redis://localhost/0?{option}", "none of a Redis|option")


@pytest.mark.parametrize(
    "url",
    [
        " redis://localhost",
        "REDIS://localhost",
        "http://localhost",
        "redis://",
        "redis:///0",
        "redis://:6379",
        "redis://localhost:0",
        "redis://a..b",
        "redis://" + "a" * 64,
        f"redis://:{SECRET}\u2100@localhost",
        f"redis://u:hun[{SECRET}@localhost",
    ],
)
def test_what_is_no_url(url: str) -> None:
    """What redis-py would take for something else, or trip over, is refused; a host that is left out, too."""
    refused(url)
    for kind in (Guard, AsyncGuard):
        for mode in ("cluster", "sentinel"):
            with pytest.raises(BadURL):
                kind.from_url(url, mode=mode, service="any")


@pytest.mark.parametrize("password", ["\u2100", "hun[ter2"])
def test_the_url_of_the_sentinels_own_user(password: str) -> None:
    """That of their user and password is refused as any other, without a word of it, and need name no host."""
    with pytest.raises(BadURL) as raised:
        Guard.from_url("redis://s1", mode="sentinel", service="any", sentinel_url=f"redis://u:{password}@sentinel")
    assert password not in str(raised.value)
    for own in ("redis://u:p@", "redis://u:p@sentinel"):
        Guard.from_url("redis://s1", mode="sentinel", service="any", sentinel_url=own)


@pytest.mark.parametrize("value", ["Required", "bogus"])
def test_requirements_that_are_wrong(value: str) -> None:
    """What is asked of a certificate is none of redis-py's words: nothing is quietly not asked of it."""
    refused(f"rediss://localhost/0?ssl_cert_reqs={value}", "none of a Redis")


def test_files_of_tls_that_cannot_be_read(tmp_path: Path) -> None:
    """Certificates, keys, authorities and ciphers that are none are refused, instead of a Redis never being reached."""
    (tmp_path / "text").write_text("no certificate")
    for option in (
        f"ssl_ca_certs={tmp_path}/{SECRET}",
        f"ssl_ca_certs={tmp_path}/text",
        f"ssl_ca_certs={tmp_path}",
        f"ssl_ca_path={tmp_path}/none",
        f"ssl_certfile={tmp_path}/none",
        f"ssl_certfile={tmp_path}/text",
        f"ssl_keyfile={tmp_path}/text",
        "ssl_ca_data=text",
        "ssl_ciphers=bogus",
        "ssl_min_version=1",
    ):
        refused(f"rediss://localhost/0?{option}", "cannot be read")


def test_what_is_taken(tmp_path: Path) -> None:
    """Usual URLs are understood."""
    for url in (
        "redis://localhost",
        "redis://user:p%3Fss@redis-1.example:6379/15",
        "redis://[::1]:6379/0",
        "rediss://localhost/0?ssl_cert_reqs=none&ssl_check_hostname=false",
        f"rediss://localhost/0?ssl_ca_path={tmp_path}",
        f"unix://{tmp_path}/redis.sock?db=2",
        "rediss://localhost?ssl_exclude_verify_flags=VERIFY_X509_STRICT",
        "redis://[fe80::1%25br-1.100]:6379",
        "redis://under_score.example.",
        "redis://n1:6379,n2:6380",
        "redis://localhost?client_name=reminders&socket_keepalive=true",
    ):
        check_url(url)


def test_several_servers_are_not_one() -> None:
    """A URL of several servers is that of a cluster, or of Sentinels."""
    with pytest.raises(BadURL, match="mode"):
        Guard.from_url("redis://n1:6379,n2:6379/0")


def test_addresses() -> None:
    """Servers are named with commas; what is no address of one is refused."""
    assert addresses("redis://u:p@a,b:7000,[::1]:7001/0") == [("a", 6379), ("b", 7000), ("::1", 7001)]
    for netloc in ("", "a,", "a:0", "a:99999", "a:x", "[::1", "a b"):
        with pytest.raises(BadURL):
            addresses(f"redis://{netloc}/0")


@pytest.mark.parametrize("host", ["", "?", "#", "/", "a/b", "a@b", "[", "]", "a b", "a\n", "::::", "1:2", "::1%/x"])
def test_what_is_no_address(host: str) -> None:
    """A host in which a sign means something in a URL is none: the URL would be another one."""
    for wrong in ((host, 6379), ("localhost", 0), ("localhost", -1), ("localhost", 65536)):
        with pytest.raises(BadAddress):
            checked_address(*wrong)
        with pytest.raises(BadAddress):
            at_address("redis://localhost", *wrong)


@pytest.mark.parametrize(
    ("url", "own", "expected"),
    [
        ("rediss://u:p@s1/0?ssl_ca_certs=A&client_name=x", "", "rediss://s1:26379?ssl_ca_certs=A"),
        ("rediss://s1/0?ssl_ca_certs=A", "rediss://:own@sentinel", "rediss://:own@s1:26379?ssl_ca_certs=A"),
        ("rediss://s1?ssl_ca_certs=A", "rediss://sentinel?ssl_ca_certs=B", "rediss://s1:26379?ssl_ca_certs=B"),
        ("rediss://s1?ssl_ca_certs=A", "redis://:own@sentinel", "redis://:own@s1:26379"),
    ],
)
def test_sentinels_are_reached_over_tls_as_the_primary_is(url: str, own: str, expected: str) -> None:
    """What the URL says of certificates holds for its Sentinels, unless their own URL says something else."""
    made: list[str] = []

    def connect(address: str) -> Any:
        made.append(address)

    sentinel_at(url, "any", connect, sentinel_url=own)
    assert made[-1] == expected
