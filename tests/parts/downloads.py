"""What a test run may fetch: nothing at all when OPTOUT_TEST_OFFLINE is set, wheels only into a virtual environment."""

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from tests.parts.errors import PartMissing
from tests.parts.exclusive import exclusive

ROOT = Path(__file__).parents[2]
JVM_LOCK = ROOT / "requirements-jvm.lock"
NODE_LOCK = ROOT / "requirements-node.lock"
INSTALL_DEADLINE_S = 600


def require_downloads() -> None:
    """Raise PartMissing if this run must not fetch anything."""
    if os.environ.get("OPTOUT_TEST_OFFLINE"):
        raise PartMissing("OPTOUT_TEST_OFFLINE forbids downloads")


def require_wheel(package: str, lock_file: Path = JVM_LOCK) -> None:
    """Make a package of a lock file importable here, installing the whole file if it is not.

    They are installed only on the machines that lack Java, Maven or Node: the Java runtime alone is 100 MB.
    """
    if importlib.util.find_spec(package) is not None:
        return
    require_downloads()
    if sys.prefix == sys.base_prefix:
        raise PartMissing("wheels are installed into a virtual environment only: run `make test`")
    with exclusive(Path(sys.prefix) / f".{lock_file.stem}.flock"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--require-hashes", "-r", str(lock_file)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S)
        except subprocess.CalledProcessError as error:
            reason = (error.stderr.strip().splitlines() or ["no output"])[-1]
            raise PartMissing(f"{lock_file.name} could not be installed ({reason})") from error
        except subprocess.TimeoutExpired as error:
            raise PartMissing(f"{lock_file.name} was not installed in {INSTALL_DEADLINE_S} s") from error
    importlib.invalidate_caches()
