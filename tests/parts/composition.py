"""What docker-compose.yml says: the one place where images and their settings stand."""

import re
from typing import Any

import yaml

from tests.parts.downloads import ROOT

COMPOSE_FILE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def services(**variables: object) -> dict[str, dict[str, Any]]:
    """Return every service by name, with these variables for the composition's own and the defaults for the others."""
    text = VARIABLE.sub(lambda found: str(variables.get(found[1], found[2])), COMPOSE_FILE.read_text("utf-8"))
    found: dict[str, dict[str, Any]] = yaml.safe_load(text)["services"]
    return found
