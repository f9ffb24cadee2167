"""The broker's jars: given, cached, or fetched once; always checked against the sums that stand beside this file."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tests.parts.downloads import require_downloads, require_wheel
from tests.parts.errors import PartMissing, PartRefused
from tests.parts.exclusive import exclusive

if TYPE_CHECKING:
    from collections.abc import Mapping

KAFKA_VERSION = "4.3.1"
COORDINATES = (("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), ("org.slf4j", "slf4j-reload4j", "1.7.36"))
SUMS_FILE = Path(__file__).with_name("kafka-jars.sha256")
FETCH_DEADLINE_S = 600


def find_jars() -> list[Path]:
    """Return the jars that a broker's class path needs.

    From the folder OPTOUT_TEST_KAFKA_LIBS, else from the cache, which is filled at the first call. Raises PartMissing
    if they cannot be had, PartRefused if one is not the jar that it should be.
    """
    sums = read_sums(SUMS_FILE)
    if given := os.environ.get("OPTOUT_TEST_KAFKA_LIBS"):
        return checked_jars(Path(given), sums)
    cache = _cache_folder()
    with exclusive(cache.with_name(f"{cache.name}.flock")):
        if not cache.is_dir():
            _fill(cache, sums)
    return checked_jars(cache, sums)


def read_sums(file: Path) -> dict[str, str]:
    """Read what `sha256sum` has written: SHA-256 by file name."""
    lines = file.read_text(encoding="ascii").splitlines()
    return {name: digest for digest, name in (line.split() for line in lines)}


def checked_jars(folder: Path, sums: "Mapping[str, str]") -> list[Path]:
    """Return the named jars of the folder; others that lie there are left out. Raises PartMissing, PartRefused."""
    jars = [folder / name for name in sums]
    absent = [jar.name for jar in jars if not jar.is_file()]
    if absent:
        raise PartMissing(f"{len(absent)} of the {len(jars)} jars of Kafka {KAFKA_VERSION} are not in {folder}")
    for jar in jars:
        with jar.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != sums[jar.name]:
                raise PartRefused(
                    f"{jar} is not the jar that {SUMS_FILE.name} names: its SHA-256 differs; "
                    f"if you did not put it there, delete the folder {folder} and run again"
                )
    return jars


def _cache_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "sms-optout" / f"kafka-{KAFKA_VERSION}"


def _fill(cache: Path, sums: "Mapping[str, str]") -> None:
    """Fetch beside the cache and rename, so that a cache that exists is a whole one."""
    try:
        require_downloads()
    except PartMissing as error:
        raise PartMissing(f"the jars of Kafka {KAFKA_VERSION} are not in {cache}, and {error}") from error
    with tempfile.TemporaryDirectory(dir=cache.parent, prefix="fetch-") as temporary:
        work = Path(temporary)
        fetched = _fetch_with_maven(work / "maven") or _fetch_with_jgo(work / "jgo")
        checked_jars(fetched, sums)
        fetched.rename(cache)


def _fetch_with_maven(folder: Path) -> Path | None:
    """Return the folder with the jars; None where `mvn` is absent or does not work, for lack of a Java, say."""
    maven = shutil.which("mvn")
    if maven is None:
        return None
    folder.mkdir()
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId><version>{version}</version></dependency>"
        for group, artifact, version in COORDINATES
    )
    (folder / "pom.xml").write_text(
        "<project><modelVersion>4.0.0</modelVersion>"
        "<groupId>local</groupId><artifactId>kafka-jars</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>",
        encoding="utf-8",
    )
    command = [maven, "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars", "-DincludeScope=runtime"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=FETCH_DEADLINE_S)
    except subprocess.SubprocessError:
        return None
    return folder / "jars"


def _fetch_with_jgo(folder: Path) -> Path:
    failed = (
        f"the jars of Kafka {KAFKA_VERSION} could not be fetched, with or without Maven; "
        "connect the machine once, or name a folder that has them in OPTOUT_TEST_KAFKA_LIBS"
    )
    try:
        require_wheel("jgo")
    except PartMissing as error:
        raise PartMissing(f"{failed} ({error})") from error
    folder.mkdir()
    script = Path(__file__).with_name("jgo_fetch.py")
    command = [sys.executable, str(script), str(folder), *(":".join(coordinate) for coordinate in COORDINATES)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=FETCH_DEADLINE_S)
    except subprocess.CalledProcessError as error:
        raise PartMissing(f"{failed} ({(error.stderr.strip().splitlines() or ['no output'])[-1]})") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissing(f"{failed} (no end after {FETCH_DEADLINE_S} s)") from error
    return folder
