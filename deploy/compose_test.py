"""Runs the composition for real: three workers, STOPs that are kept and told, a worker killed, all of it taken down.

`make compose-test`; `STAND_INS=1 make compose-test` where images cannot be pulled: see deploy/stand-ins/build.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.parts import oracle
from tests.parts.ports import HOST, free_ports
from tests.parts.system import System, wait_for

ROOT = Path(__file__).parents[1]
WORKERS = 3
BUCKETS = 64
LOCATIONS = tuple(f"loc-{number}" for number in range(40))  # so that each worker owns the bucket of some
PATIENT = "+12025550143"
TAKEOVER_S = 60.0
LAST_LINES = 15


class Failed(Exception):
    """One sentence: what did not hold, or what is missing."""


class Composition:
    """The composition under a name and on ports of its own, so that one that is in use is left alone."""

    def __init__(self) -> None:
        self.kafka_port, self.redis_port = free_ports(2)
        self._name = f"sms-optout-test-{secrets.token_hex(3)}"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("OPTOUT_")},
            "KAFKA_HOST_PORT": str(self.kafka_port),
            "REDIS_HOST_PORT": str(self.redis_port),
        }

    def __call__(self, *arguments: str, stdin: str = "") -> str:
        """Run `docker compose ARGUMENTS` and return what it answers. Raises Failed with its last line."""
        return docker("compose", "--project-name", self._name, *arguments, stdin=stdin, env=self._environment)

    def text(self, body: str) -> None:
        """Send this text from the patient to every location, with the command in the composition."""
        lines = (json.dumps({"location_id": place, "patient_number": PATIENT, "body": body}) for place in LOCATIONS)
        self("run", "--rm", "-T", "optout", "simulate", "--file", "-", stdin="\n".join(lines))

    def exit_codes(self) -> list[int]:
        """Return the exit codes of the workers' containers."""
        containers = self("ps", "--all", "--format", "json", "worker").splitlines()
        return sorted(json.loads(container)["ExitCode"] for container in containers)


def docker(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> str:
    """Run `docker ARGUMENTS` and return its output. Raises Failed with its last line."""
    try:
        done = subprocess.run(
            ["docker", *arguments], cwd=ROOT, env=env, input=stdin, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise Failed("there is no docker on the PATH: install Docker with its compose plugin") from None
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it said nothing").splitlines()[-1]
        raise Failed(f"docker {' '.join(arguments)}: {last}")
    return done.stdout


def images() -> list[str]:
    """Return the images that others make: Kafka, Redis, and what ours is built on."""
    services = json.loads(docker("compose", "config", "--format", "json"))["services"]
    lines = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").splitlines()
    base = next(line.removeprefix("ARG PYTHON=") for line in lines if line.startswith("ARG PYTHON="))
    return [services["kafka"]["image"], services["redis"]["image"], base]


def provide(image: str) -> None:
    """Pull an image that is not here, and say so of one that is a stand-in. Raises Failed."""
    try:
        labels = docker("image", "inspect", "--format", "{{json .Config.Labels}}", image)
    except Failed:
        try:
            docker("pull", "--quiet", image)
        except Failed as problem:
            raise Failed(f"{problem}; STAND_INS=1 make compose-test tries with stand-ins built here") from None
        return
    if "sms-optout.stand-in" in labels:
        say(f"{image} is a STAND-IN that was built here; to have the real one: docker image rm {image}")


def run(composition: Composition, folder: Path) -> None:
    """Start it and see the promises hold, one after the other. Raises Failed, or AssertionError with a sentence."""
    composition("up", "--detach", "--build", "--wait", "--wait-timeout", "180", "--scale", f"worker={WORKERS}")
    say(f"up and healthy with {WORKERS} workers")
    redis_url = f"redis://{HOST}:{composition.redis_port}/0"
    with System(f"{HOST}:{composition.kafka_port}", redis_url, "", folder, buckets=BUCKETS) as system:
        composition.text(" Stop ")
        expect(system, members=len(LOCATIONS), told=len(LOCATIONS))
        ask = f"optout check {LOCATIONS[0]} {PATIENT} || true"  # its exit code is the verdict, not a failure
        within = composition("exec", "-T", "worker", "sh", "-c", ask)
        outside = system.verdict(LOCATIONS[0], PATIENT)
        if "SUPPRESSED" not in within or outside != "SUPPRESSED":
            raise Failed(f"after a STOP `optout check` says {within.strip()} in a worker and {outside} on the host")
        say("STOP: suppressed, asked within and from the host, and SubscriptionChanged is on its topic")
        docker("kill", "--signal", "KILL", composition("ps", "--quiet", "worker").split()[0])
        say("one worker killed")
        composition.text("start")
        expect(system, members=0, told=2 * len(LOCATIONS))
        wait_for("ALLOWED after START", lambda: system.verdict(LOCATIONS[0], PATIENT) == "ALLOWED", TAKEOVER_S)
        composition.text("QUIT")
        expect(system, members=len(LOCATIONS), told=3 * len(LOCATIONS))
        say("START and STOP again, with the workers that are left")
    composition("stop", "worker")
    if (codes := composition.exit_codes()) != [0] * (WORKERS - 1) + [137]:
        raise Failed(f"the workers' exit codes are {codes}: all but the killed one should be 0")
    say("the workers ended cleanly")


def expect(system: System, *, members: int, told: int) -> None:
    """Wait until so many are opted out and so many changes told, each once and as the ledger has it."""
    wait_for(f"{members} opted out", lambda: len(system.members()) == members, TAKEOVER_S)
    wait_for(f"{told} changes told", lambda: len(system.read("changed")) >= told, TAKEOVER_S)
    if oracle.told(system.read("changed")) != oracle.changes_of(system.read("ledger")):
        raise Failed("the changes that were told are not those that the ledger holds")


def say(sentence: str) -> None:
    """Tell the person who waits."""
    print(f"{time.monotonic() - BEGAN:5.0f} s  {sentence}", flush=True)


def main() -> int:
    """Return 0 if everything held; whatever happens, no container, network or volume is left."""
    try:
        if os.environ.get("STAND_INS"):
            subprocess.run([ROOT / "deploy" / "stand-ins" / "build"], check=True)
        for image in images():
            provide(image)
        composition = Composition()
        try:
            with tempfile.TemporaryDirectory() as folder:
                run(composition, Path(folder))
        except (Failed, AssertionError):
            print(composition("logs", "--tail", str(LAST_LINES), "topics", "worker"), file=sys.stderr)
            raise
        finally:
            composition("down", "--volumes", "--remove-orphans", "--timeout", "15")
    except (Failed, AssertionError, subprocess.CalledProcessError) as problem:
        print(f"compose-test: {problem}", file=sys.stderr)
        return 1
    say("taken down; everything held")
    return 0


BEGAN = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
