"""The command `optout serve`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from consumer.ops import logs
from consumer.settings import ConfigurationError, load

if TYPE_CHECKING:
    from collections.abc import Callable

    from consumer.settings import Settings

OWN = ("serve_listen", "serve_token", "shutdown_seconds", "log_level")


@click.command("serve")
@click.pass_obj
def serve(settings: Callable[[], Settings]) -> int:
    """Answer over HTTP whether a location may text a number. Needs the settings of Redis only. SIGTERM ends it cleanly.

    OPTOUT_SERVE_LISTEN says where, OPTOUT_SERVE_TOKEN who may ask; /openapi.json describes what can be asked.
    """
    try:
        from consumer.serve.server import serve as answer  # noqa: PLC0415 - the other commands do without
    except ModuleNotFoundError as missing:
        package = (missing.name or "").partition(".")[0]
        if package == "consumer":
            raise
        raise ConfigurationError(f"{package} is not installed: install sms-optout[serve]") from None
    own = load()
    # The Redis may be that of the stack that `optout dev` runs; where and to whom we answer is never for that to say.
    loaded = settings().model_copy(update={name: getattr(own, name) for name in OWN})
    logs.configure(loaded.log_level)
    return answer(loaded)
