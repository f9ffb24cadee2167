"""Logs: one line an event, JSON unless a person reads it at a terminal. No body and no full number, ever."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, cast

import structlog

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


def configure(level: str = "info", *, client: bool = True) -> None:
    """Set up structlog for the process: to stderr, so that what a command answers stands alone on stdout.

    Without `client` the Kafka client's own lines are left out: of a command that asks once, its answer says enough.
    """
    logging.getLogger("librdkafka").setLevel(logging.NOTSET if client else logging.CRITICAL + 1)
    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("event") if person else structlog.processors.dict_tracebacks,
            structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def librdkafka() -> logging.Logger:
    """Return where the Kafka client's own lines go: into the same log. They name brokers and topics, never content."""
    lines = logging.getLogger("librdkafka")
    if not lines.handlers:
        lines.addHandler(_Forward())
        lines.propagate = False
    return lines


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one line of the client's as one of ours."""
        logger("librdkafka").log(min(record.levelno, logging.WARNING), record.getMessage())


def logger(stage: str) -> FilteringBoundLogger:
    """Return the logger of one stage of the worker."""
    return cast("FilteringBoundLogger", structlog.get_logger(stage=stage))
