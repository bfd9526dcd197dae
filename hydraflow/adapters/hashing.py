"""The digest of a growing file, computed behind its contiguous prefix, in a thread.

hashlib releases the GIL, so this costs the transfer no time, and it ends shortly after the last byte has come.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from hydraflow.core.integrity import Hasher

__all__ = ["PrefixHasher"]

_BLOCK = 1 << 20


class PrefixHasher:
    """Hashes bytes `[0, n)` of a file for ever larger `n`.

    Args:
        hasher: takes the bytes in order.
        read_into: fills a view from an offset and returns how many bytes it put there.
    """

    def __init__(self, hasher: Hasher, read_into: Callable[[memoryview, int], int]) -> None:
        self._hasher = hasher
        self._read_into = read_into
        self._turn = threading.Condition()
        self._target = 0
        self._done = 0
        self._closed = False
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="hydraflow-hash", daemon=True)
        self._thread.start()

    def advance(self, prefix: int) -> None:
        """The first `prefix` bytes are in the file."""
        with self._turn:
            self._target = max(self._target, prefix)
            self._turn.notify_all()

    def finish(self, size: int) -> str:
        """Wait until `size` bytes are hashed; the digest in hexadecimal.

        Raises:
            OSError: the file could not be read back.
        """
        self.advance(size)
        with self._turn:
            self._turn.wait_for(lambda: self._done >= size or self._error is not None or self._closed)
            if self._error is not None:
                raise self._error
        return self._hasher.hexdigest()

    def close(self) -> None:
        """End the thread; the file is not touched any more afterwards."""
        with self._turn:
            self._closed = True
            self._turn.notify_all()
        self._thread.join()

    def _run(self) -> None:
        view = memoryview(bytearray(_BLOCK))
        while True:
            with self._turn:
                self._turn.wait_for(lambda: self._closed or self._target > self._done)
                if self._closed:
                    return
                target = self._target
            try:
                while self._done < target and not self._closed:
                    count = self._read_into(view[: min(_BLOCK, target - self._done)], self._done)
                    if count == 0:
                        raise OSError("the part file is shorter than what was written to it")
                    self._hasher.update(view[:count])
                    self._done += count
            except Exception as error:  # noqa: BLE001 - raised again in `finish`, or that would wait for ever
                self._error = error
            with self._turn:
                self._turn.notify_all()
                if self._error is not None:
                    return
