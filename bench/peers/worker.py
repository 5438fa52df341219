"""A process that stays alive, so that a rival that aborts takes nothing else along."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from bench.sweep import Outcome

__all__ = ["RivalError", "Worker"]


class RivalError(Exception):
    """A fit that did not come back; the message says why."""


class Worker:
    """Runs fits in another process, which is started again after its death.

    Parameters
    ----------
    patience : float
        Seconds for one answer; then the process is ended.
    """

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self._process: Any = None
        self._pipe: Any = None
        self._has: Any = None
        self._log = Path(tempfile.mkstemp(prefix="peers-", suffix=".log")[1])

    def fit(self, fit: Callable[..., Outcome], objective: Any, *args: Any) -> Outcome:
        """Return ``fit(objective, *args)`` of the process.

        The objective is sent when it is another one than the last time. ``fit`` is
        sent by its name.
        """
        if self._process is None:
            self._start()
        try:
            new = objective is not self._has
            self._pipe.send((fit, objective if new else None, args))
            self._has = objective
            if not self._pipe.poll(self.patience):
                self._end()
                raise RivalError(f"no answer in {self.patience:.0f} s")
            answer = self._pipe.recv()
        except (EOFError, OSError):
            raise RivalError(self._cause()) from None
        if isinstance(answer, str):
            raise RivalError(answer)
        outcome: Outcome = answer
        return outcome

    def close(self) -> None:
        """End the process, if there is one."""
        self._end()
        self._log.unlink(missing_ok=True)

    def _start(self) -> None:
        # A fresh interpreter: threads of BLAS and OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(other, str(self._log)), daemon=True
        )
        # Ctrl-C is for the parent: what is ignored now is ignored there from the start.
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
        try:
            self._process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
        other.close()

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = self._pipe = self._has = None

    def _cause(self) -> str:
        self._process.join(10.0)
        code = self._process.exitcode
        self._end()
        cause = f"the process ended with exit code {code}"
        if code is not None and code < 0:
            cause = f"the process was ended by {signal.Signals(-code).name}"
        lines = self._log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        return f"{cause}: {last.strip()[:120]}" if last else cause


def _serve(pipe: Connection, log: str) -> None:
    """Answer until the pipe is closed."""
    with open(log, "w") as file:
        for stream in (1, 2):  # of C libraries too
            os.dup2(file.fileno(), stream)
    objective: Any = None
    with contextlib.suppress(EOFError, OSError):
        while True:
            fit, new, args = pipe.recv()
            objective = objective if new is None else new
            answer: Outcome | str
            try:
                answer = fit(objective, *args)
            except Exception as error:
                first = (str(error) or "no message").splitlines()[0]
                answer = f"{type(error).__name__}: {first[:120]}"
            pipe.send(answer)
