"""The right to write to a store that no operating system guards: one process at a time on an object store."""

import json
import threading
from contextlib import suppress
from time import time
from typing import Any
from uuid import uuid4

from localize.errors import LocalizeError

BEAT, STALE = 20.0, 120.0
"""Seconds after which a lease is renewed, and after which it counts as left behind."""


class Lease:
    """A file beside the store, made exclusively, renewed while its holder lives; to be used as a context.

    Args:
        url: Of the store, as fsspec takes it.

    Raises:
        LocalizeError: If another process holds it.
    """

    def __init__(self, url: str):
        import fsspec

        self.url = url
        self._files, self._key = fsspec.core.url_to_fs(url.rstrip("/") + ".lease")
        self._mine, self._renewed, self._over = uuid4().hex, 0.0, threading.Event()
        self._beat = threading.Thread(target=self._keep, daemon=True)

    def __enter__(self) -> "Lease":
        if time() - self._held().get("renewed", 0.0) >= STALE:
            with suppress(FileNotFoundError):
                self._files.rm_file(self._key)
        try:
            self._say("create")
        except FileExistsError:
            raise LocalizeError(
                f"sweep {self.url}: another process is writing to it; wait for it, or {STALE:.0f} s after it was killed."
            ) from None
        self._beat.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._over.set()
        self._beat.join()
        if self._held().get("holder") == self._mine:
            self._files.rm_file(self._key)

    def check(self) -> None:
        """See that it is still held: a process that was stopped for minutes may have been taken for dead.

        Raises:
            LocalizeError: If another process writes now.
        """
        if time() - self._renewed > STALE / 2:
            self._renew()

    def _renew(self) -> None:
        if self._held().get("holder") != self._mine:
            raise LocalizeError(
                f"sweep {self.url}: another process took over while this one stood still; what is finished is kept."
            )
        self._say("overwrite")

    def _keep(self) -> None:
        """Renew it until it is over; one that was lost is told by `check`."""
        while not self._over.wait(BEAT):
            try:
                self._renew()
            except LocalizeError:
                return
            except OSError:
                continue  # a connection that fails now may be there at the next beat

    def _say(self, mode: str) -> None:
        now = time()
        self._files.pipe_file(self._key, json.dumps({"holder": self._mine, "renewed": now}).encode(), mode=mode)
        self._renewed = now

    def _held(self) -> dict[str, Any]:
        try:
            return json.loads(self._files.cat_file(self._key))
        except FileNotFoundError:
            return {}
