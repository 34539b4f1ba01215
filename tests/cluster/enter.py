"""`python enter.py PID COMMAND ...`: the command, on the host whose first process is PID, as if it were run here.

Signals are passed on to it, its status is ours, and it is killed when we are. Run as root.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1
"""Of Linux's prctl.h."""
KINDS = ("net", "uts", "ipc", "pid", "mnt")
"""mnt is last: there, /proc no longer tells of PID."""


def enter(pid: int) -> None:
    """Join the process's namespaces; for `pid`, it is our children that will be in it. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    for kind in KINDS:
        namespace = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY)
        if libc.setns(namespace, 0):
            raise OSError(ctypes.get_errno(), f"setns: {os.strerror(ctypes.get_errno())}")
        os.close(namespace)


def carry_out(command: list[str], folder: str) -> int:
    """The command's wait status."""
    child = os.fork()
    if child == 0:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
        os.setsid()  # so that a signal for our group comes once
        try:
            os.chdir(folder)
            os.execvp(command[0], command)
        except OSError as error:
            print(f"{command[0]}: {error}", file=sys.stderr, flush=True)
        os._exit(127)  # as a shell says it
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    return os.waitpid(child, 0)[1]


def main() -> None:
    folder = os.getcwd()
    enter(int(sys.argv[1]))
    status = carry_out(sys.argv[2:], folder)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


if __name__ == "__main__":
    main()
