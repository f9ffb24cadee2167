"""Fetch jars and all that they need at run time, without Maven: `jgo_fetch.py FOLDER GROUP:ARTIFACT:VERSION...`.

A program of its own, because the package jgo is installed after the test run has begun, and only if it is needed.
"""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from jgo.maven import MavenContext

READ_TIMEOUT_S = 60
CONNECTIONS = 8


def fetch(folder: Path, coordinates: list[str]) -> None:
    with TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), timeout=READ_TIMEOUT_S)
        wanted = [context.create_dependency(coordinate) for coordinate in coordinates]
        inputs, transitive = context.resolver.resolve(wanted)
        jars = [dependency.artifact for dependency in inputs]
        jars += [dependency.artifact for dependency in transitive if dependency.scope in {"compile", "runtime"}]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for jar in pool.map(lambda artifact: artifact.resolve(), jars):
                jar.rename(folder / jar.name)


if __name__ == "__main__":
    fetch(Path(sys.argv[1]), sys.argv[2:])
