"""What one pass took, and how the process that made it tells the one that asked for it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

MARK = "optout-bench "


@dataclass(frozen=True, slots=True)
class Measurement:
    """Messages, and the seconds for all of them: of CPU (user and system, all threads), and by the clock."""

    messages: int
    cpu_s: float
    wall_s: float

    @property
    def k_per_cpu_s(self) -> float:
        """Thousands of messages a CPU-second."""
        return self.messages / self.cpu_s / 1000

    @property
    def k_per_wall_s(self) -> float:
        """Thousands of messages a second by the clock."""
        return self.messages / self.wall_s / 1000

    def tell(self) -> None:
        """Print it as the one line that `heard` looks for."""
        print(MARK + json.dumps(asdict(self)), flush=True)

    @classmethod
    def heard(cls, output: Path) -> Self | None:
        """Return what the process with this output told; None if it told nothing."""
        for line in reversed(output.read_text("utf-8", "replace").splitlines()):
            if line.startswith(MARK):
                return cls(**json.loads(line.removeprefix(MARK)))
        return None
