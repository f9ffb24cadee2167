"""Products with one rule taken out, and a run of the crash matrix that finds each: the matrix is not blind."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.faults.deployment import HERE

if TYPE_CHECKING:
    from pathlib import Path


class Broken(NamedTuple):
    """A line of the product, what stands there instead, the run that finds it, and the harm it finds."""

    file: str
    line: str
    instead: str
    step: str
    fault: str
    seed: int
    harm: str


BROKEN = {
    "trimming before the commit": Broken(
        "publisher.py",
        "        if offsets and self._inbox.token is token:\n",
        "        self._view.trim(offsets)\n        if offsets and self._inbox.token is token:\n",
        "publish-after-produce",
        "kill",
        1,
        "lost",
    ),
    "publishing below what is published": Broken(
        "publisher.py",
        "learned = {partition.number: found.offset for partition, found in told.items()}\n",
        "learned = {partition.number: 0 for partition in told}\n",
        "publish-before-trim",
        "kill",
        1,
        "doubled",
    ),
    "vouching for what is not classified": Broken(
        "voucher.py",
        "reached(now, committed, bounds)",
        "reached(now, {p: bound.end for p, bound in bounds.items()}, bounds)",
        "classify-before-produce",  # the struck worker reads some of inbound, and in this seed the other has buckets
        "kill",
        2,
        "allowed",
    ),
}


def make(broken: Broken, folder: Path) -> Path:
    """Make a copy of the product with that line changed; return where its workers are to be run."""
    shutil.copytree(HERE / "consumer", folder / "consumer")
    for unchanged in ("tests", "schemas"):
        (folder / unchanged).symlink_to(HERE / unchanged)
    file = folder / "consumer" / broken.file
    text = file.read_text()
    assert text.count(broken.line) == 1, f"{broken.file} does not hold once: {broken.line.strip()}"
    file.write_text(text.replace(broken.line, broken.instead))
    return folder
