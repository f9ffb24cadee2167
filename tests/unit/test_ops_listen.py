"""The setting OPTOUT_OPS_LISTEN: what it may be."""

import pytest

from consumer import settings


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("9464", ("127.0.0.1", 9464)),
        (":9464", ("127.0.0.1", 9464)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),
        ("[::1]:9464", ("::1", 9464)),
    ],
)
def test_addresses(given: str, meant: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """An address is host:port; without a host nobody but this machine can ask."""
    monkeypatch.setenv("OPTOUT_OPS_LISTEN", given)
    assert settings.load().ops_listen == meant


@pytest.mark.parametrize(
    "given", ["::1:9464", "[127.0.0.1]:9464", "localhost", "localhost:", "localhost:http", "localhost:65536", "1:2:-3"]
)
def test_what_is_no_address(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no address is refused in one sentence that shows how to write one."""
    monkeypatch.setenv("OPTOUT_OPS_LISTEN", given)
    with pytest.raises(settings.ConfigurationError) as refusal:
        settings.load()
    (sentence,) = refusal.value.faults
    assert sentence.startswith("OPTOUT_OPS_LISTEN")
    assert "write host:port" in sentence


def test_unset_listens_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens unless it is asked to; a compose file gives what is not set as nothing."""
    monkeypatch.delenv("OPTOUT_OPS_LISTEN", raising=False)
    assert settings.load().ops_listen is None
    monkeypatch.setenv("OPTOUT_OPS_LISTEN", "")
    assert settings.load().ops_listen is None
