"""Objects in processes of their own: what is set, timed and left behind there touches no other process."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any


class Remote:
    """An object in a new process. Use as a context manager: leaving it ends the process.

    make: called there with the arguments, returns the object. Both must be picklable.
    """

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._connection, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make, *arguments))
        self._process.start()
        theirs.close()

    def send(self, method: str, *arguments: Any) -> None:
        """Call a method of the object, and do not wait for it."""
        self._connection.send((method, arguments, False))

    def receive(self) -> Any:
        """What the method called last returns. Raises RuntimeError if it failed; its traceback is on stderr."""
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError("a process of the benchmark ended early") from None

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object and return what it returns."""
        self.send(method, *arguments)
        return self.receive()

    def follow(self, method: str, *arguments: Any) -> Iterator[Any]:
        """Call a method that takes a function as its last argument and returns None; yields what it calls that with."""
        self._connection.send((method, arguments, True))
        return iter(self.receive, None)

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        self._connection.close()
        if kind is not None:
            self._process.kill()
        self._process.join()


def call_all(remotes: Sequence[Remote], method: str, *arguments: Any) -> None:
    """Call a method of all of the objects at once, and wait until each has returned."""
    for remote in remotes:
        remote.send(method, *arguments)
    for remote in remotes:
        remote.receive()


def _serve(connection: Connection, make: Callable[..., Any], *arguments: Any) -> None:
    """The process: it ends when its caller has gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the caller's to handle
    # A process that was spawned spawns its own too; here they shall start as in any program on this system.
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)
    subject = make(*arguments)
    with suppress(EOFError, BrokenPipeError):
        while True:
            method, its_arguments, is_followed = connection.recv()
            tell = (connection.send,) if is_followed else ()
            connection.send(getattr(subject, method)(*its_arguments, *tell))
