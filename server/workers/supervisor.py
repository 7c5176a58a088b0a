"""Several worker processes under one parent: started, watched, started again, and ended together.

The parent does nothing else: it has no event loop and no thread, so that it may fork whenever a worker is missing. Each worker
has a socket to its parent. Over it comes the word that the worker serves; and at its end each knows that the other is gone,
whatever ended it.
"""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, NoReturn

log = logging.getLogger("ebbtide")

RETRY_FIRST, RETRY_MOST = 0.1, 10.0
"""Seconds before a worker that died is replaced, doubling from the first to the most while its successors die too."""

STEADY_SECONDS = 60.0
"""A worker that served so long did not die of its start: its successor comes after the first delay."""

MISCONFIGURED = 2
"""The exit status for what the user has to mend: no further worker would do better."""

_ENDING = (signal.SIGTERM, signal.SIGINT)
_SIGNALS = (*_ENDING, signal.SIGCHLD)


class Worker(NamedTuple):
    """What a worker process knows of its place among all `workers`: its `number` counts from 0.

    In `folder` the workers may meet; nobody else may enter it. `again` says that all had served before this one was started.
    `parent` is readable when the parent is gone, and not before.
    """

    number: int
    workers: int
    folder: Path
    again: bool
    parent: socket.socket

    def serves(self) -> None:
        """Tell the parent that connections are accepted."""
        # A parent that is gone is met as the socket's end, which the worker waits for anyway.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.parent.send(b"\x01")


class _Child:
    """A worker as its parent sees it."""

    def __init__(self, number: int, pid: int, link: socket.socket) -> None:
        self.number = number
        self.pid = pid
        self.link = link
        self.serves = False
        self.since = time.monotonic()


class Supervisor:
    """`run` is the whole life of the parent. Made and run on the main thread of a process that has no other."""

    def __init__(
        self, count: int, folder: Path, work: Callable[[Worker], int], served: Callable[[], None], patience: float
    ) -> None:
        """Keep `count` processes at `work`, which returns the exit status of its process.

        `folder` is for the workers; the caller makes and removes it. `served` is called once, when all of them accept
        connections. After a signal to end, what is not gone within `patience` seconds is killed.
        """
        self._count = count
        self._folder = folder
        self._work = work
        self._served = served
        self._patience = patience
        self._children: dict[int, _Child] = {}
        self._due: dict[int, float] = {}
        self._delays: dict[int, float] = {}
        self._up = False
        self._status = 0
        self._deadline: float | None = None
        self._selector = selectors.DefaultSelector()
        self._woken, self._waker = socket.socketpair()

    def run(self) -> int:
        """Until SIGTERM or SIGINT, or a worker that cannot start: the exit status.

        0: asked to end, and every worker ended in order. 1: a worker failed before all served, or had to be killed at the end.
        2: a worker said what the user has to mend.
        """
        self._woken.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._woken, selectors.EVENT_READ)
        for number in _SIGNALS:
            signal.signal(number, _wake)
        signal.set_wakeup_fd(self._waker.fileno())
        # One alone, which finds out what is wrong and says so once; the others when it serves.
        self._start(0)
        while self._children or self._due:
            for key, _ in self._selector.select(self._patient_for()):
                if key.data is None:
                    self._signalled()
                else:
                    self._told(key.data)
            self._reap()
            self._kill_late()
            self._replace()
        return self._status

    def _patient_for(self) -> float | None:
        moments = [*self._due.values(), *([] if self._deadline is None else [self._deadline])]
        return max(0.0, min(moments) - time.monotonic()) if moments else None

    def _signalled(self) -> None:
        if any(number in _ENDING for number in self._woken.recv(4096)):
            self._end(0)

    def _told(self, child: _Child) -> None:
        if not child.link.recv(1):
            self._selector.unregister(child.link)  # its end: SIGCHLD follows
            return
        child.serves = True
        if self._deadline is not None:
            return
        if self._up:
            log.info("worker serves", extra={"worker": child.number, "pid": child.pid})
            return
        if child.number == 0:
            for number in range(1, self._count):
                if self._deadline is None:
                    self._start(number)
        if len(self._children) == self._count and all(each.serves for each in self._children.values()):
            self._up = True
            self._served()

    def _reap(self) -> None:
        for child in list(self._children.values()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[pid]
                with suppress(KeyError):
                    self._selector.unregister(child.link)
                child.link.close()
                self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: _Child, status: int) -> None:
        """`status` is an exit status, or a signal's number below 0."""
        how = {"worker": child.number, "pid": child.pid, **({"status": status} if status >= 0 else {"signal": -status})}
        if self._deadline is not None:
            # Before it serves, a worker has nothing to bring in order: it leaves signals to the system, and may have found what
            # another did.
            if status and (child.serves or status not in (MISCONFIGURED, *(-number for number in _ENDING))):
                log.error("worker did not end in order", extra=how)
                self._status = self._status or 1
        elif status == MISCONFIGURED:
            self._end(MISCONFIGURED)
        elif not self._up:
            log.critical("worker ended before all served", extra=how)
            self._end(1)
        else:
            log.error("worker died, another follows", extra=how)
            if child.serves and time.monotonic() - child.since > STEADY_SECONDS:
                self._delays.pop(child.number, None)
            self._later(child.number)

    def _later(self, number: int) -> None:
        delay = self._delays.get(number, RETRY_FIRST)
        self._delays[number] = min(RETRY_MOST, delay * 2)
        self._due[number] = time.monotonic() + delay

    def _replace(self) -> None:
        for number, moment in list(self._due.items()):
            if moment <= time.monotonic():
                del self._due[number]
                self._start(number)

    def _end(self, status: int) -> None:
        """Tell all to end, at once or not at all."""
        if self._deadline is not None:
            return
        self._status = status
        self._deadline = time.monotonic() + self._patience
        self._due.clear()
        log.info("ending the workers", extra={"workers": len(self._children)})
        for child in self._children.values():
            os.kill(child.pid, signal.SIGTERM)

    def _kill_late(self) -> None:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            for child in self._children.values():
                log.error("worker does not end, it is killed", extra={"worker": child.number, "pid": child.pid})
                os.kill(child.pid, signal.SIGKILL)
            self._deadline += self._patience

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        # A signal in between would be handled in the worker as if it were the parent.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            ours.close()
            theirs.close()
            log.error("worker not started", extra={"worker": number, "reason": error.strerror})
            if self._up:
                self._later(number)
            else:
                self._end(1)
            return
        if pid == 0:
            ours.close()
            self._become(Worker(number, self._count, self._folder, self._up, theirs))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        child = _Child(number, pid, ours)
        self._children[pid] = child
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _become(self, worker: Worker) -> NoReturn:
        """Go on as a worker, in a process that nothing of the parent's may reach: it never returns to the caller."""
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            self._woken.close()
            self._waker.close()
            # Else its siblings would not see their parent's end before this process has ended too.
            for child in self._children.values():
                child.link.close()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            status = self._work(worker)
        except BaseException:
            log.critical("worker failed", exc_info=True)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _wake(_number: int, _frame: object) -> None:
    """The signal's number is in the wake-up socket."""
