"""Run inside a child before the real program: asks to be killed with the parent, then becomes the program.

A script of its own, `python -I -S launcher.py HOW PARENT_PID COMMAND...`, and not a `preexec_fn`: between fork and exec
Python code may deadlock in a process with other threads (librdkafka's, for one). The program keeps the child's pid.
"""

import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG = 1
WATCH_INTERVAL_S = 0.2


def die_with_parent(parent: int) -> None:
    """Have Linux send SIGKILL when the parent's thread that started this process ends; survives exec.

    Raises OSError if the kernel refuses.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before the request was made: nobody will send the signal
        os._exit(1)


def watch_parent(parent: int) -> None:
    """Leave a small process behind that kills this one when the parent is gone: for systems without prctl.

    Best effort: it looks five times a second, and a killed parent that nobody has waited for still counts as alive.
    """
    program = os.getpid()
    if os.fork() != 0:
        return
    os.closerange(0, 3)  # or a reader of the program's output would wait for this process too
    while os.getppid() == program:
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os.kill(program, signal.SIGKILL)
            break
        time.sleep(WATCH_INTERVAL_S)
    os._exit(0)


def main(how: str, parent: int, command: list[str]) -> None:
    """Tie this process to the parent by `how` ("signal" or "watch") and replace it by the command."""
    for ignored_by_python in (signal.SIGPIPE, signal.SIGXFSZ):  # an ignored signal would stay ignored after exec
        signal.signal(ignored_by_python, signal.SIG_DFL)
    if how == "signal":
        die_with_parent(parent)
    else:
        watch_parent(parent)
    os.execv(command[0], command)  # noqa: S606 - the caller chose the program


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
