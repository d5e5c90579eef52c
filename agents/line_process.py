"""A child process that answers one line with one line, within a time."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import tempfile
import time
import weakref
from typing import IO

from ..configs.errors import UserError

TIMEOUT_S = 30.0
_MAX_BYTES = 1_000_000
_SHOWN = 300


class LineProcess:
    """Starts the command (no shell) with pipes for its input and output; what it writes to standard error is kept for
    messages. It ends when this object does: its input is closed, and two seconds later it is killed."""

    def __init__(self, name: str, command: str, timeout_s: float = TIMEOUT_S) -> None:
        self._name, self._timeout_s = name, timeout_s
        self._read = b""
        try:
            words = shlex.split(command)
        except ValueError as error:
            raise UserError(f"{name}: the command cannot be read ({error}). Mend its quotes.") from None
        if not words:
            raise UserError(f"router {name!r}: no command. Write it as cmd:COMMAND, for example 'cmd:./our_sor'.")
        self._said: IO[bytes] = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, bufsize=0
            )
        except OSError as error:
            self._said.close()
            raise UserError(f"{name}: cannot start {words[0]!r}: {error.strerror}. Mend the command.") from None
        assert self._process.stdin is not None and self._process.stdout is not None
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        weakref.finalize(self, _end, self._process, self._said)

    def ask(self, line: str) -> str:
        """Write a line, read one.

        Raises:
            UserError: the process ended, did not answer in time, or answers without end; the message quotes the line.
        """
        waiting, until = line.encode() + b"\n", time.monotonic() + self._timeout_s
        while b"\n" not in self._read:
            left = until - time.monotonic()
            if left <= 0:
                raise self._error(f"no answer within {self._timeout_s:g} s", line)
            reads, writes, _ = select.select([self._out], [self._in] if waiting else [], [], left)
            if writes:
                try:
                    waiting = waiting[os.write(self._in, waiting) :]
                except BrokenPipeError:
                    raise self._error(self._ended(), line) from None
            if reads:
                new = os.read(self._out, 65_536)
                if not new:
                    raise self._error(self._ended(), line)
                self._read += new
                if len(self._read) > _MAX_BYTES:
                    raise self._error(f"an answer of more than {_MAX_BYTES:,} bytes", line)
        answer, _, self._read = self._read.partition(b"\n")
        return answer.decode(errors="replace")

    def _ended(self) -> str:
        try:
            return f"ended with exit code {self._process.wait(2.0)} before it answered"
        except subprocess.TimeoutExpired:
            return "closed its input or output before it answered"

    def _error(self, what: str, line: str) -> UserError:
        self._said.seek(0)
        said = self._said.read().decode(errors="replace").strip().splitlines()
        last = f" It said: {cut(said[-1])}" if said else ""
        return UserError(f"{self._name}: {what}. Asked: {cut(line)}{last}")


def cut(text: str) -> str:
    """At most 300 characters of a line."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({len(text):,} characters)"


def _end(process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    said.close()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
    try:
        process.wait(2.0)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


__all__ = ["LineProcess", "cut"]
