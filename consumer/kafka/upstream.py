"""What can take a text away from an inbound topic before anybody has read it.

The topic is upstream's, and so this is said and nothing is refused: no text is lost yet, a worker that stands still
keeps no opt-out either, and one that runs reads each text within a second, long before it could be deleted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LEAST_RETENTION_HOURS = 24
"""Hours for which texts have to be kept: a planned stop lasts four at a time, and an unplanned one may last a night."""
_HOUR_MS = 3_600_000


def inbound_faults(name: str, configs: Mapping[str, str]) -> list[str]:
    """Return a sentence on each setting of an inbound topic with which texts can be lost unread."""
    faults = []
    if "compact" in (policy := configs.get("cleanup.policy", "")):
        faults.append(
            f"{name} has cleanup.policy={policy}: set delete, or a later text of the same key takes away a STOP that "
            "nobody has read"
        )
    if 0 <= int(configs.get("retention.ms", "-1")) < LEAST_RETENTION_HOURS * _HOUR_MS:
        faults.append(
            f"{name} has retention.ms={configs['retention.ms']}: set {LEAST_RETENTION_HOURS * _HOUR_MS} "
            f"({LEAST_RETENTION_HOURS} h) or more, or a stop of all workers outlasts texts that nobody has read"
        )
    if int(configs.get("retention.bytes", "-1")) >= 0:
        faults.append(
            f"{name} has retention.bytes={configs['retention.bytes']}: set -1, or how long a text that nobody has read "
            "is kept depends on how many others come in"
        )
    if configs.get("unclean.leader.election.enable") == "true":
        faults.append(
            f"{name} has unclean.leader.election.enable=true: set false, or acknowledged texts are lost with a broker, "
            "and later ones take offsets that are committed already"
        )
    return faults
