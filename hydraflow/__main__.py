"""`python -m hydraflow`, and the command `hydraflow`."""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn


def _leave(number: int, frame: object) -> NoReturn:
    """A signal during the imports: nothing has begun, and nobody wants to see a traceback."""
    del frame
    with suppress(OSError):
        os.write(2, b"hydraflow: interrupted\n")
    os._exit(128 + number)


def main() -> NoReturn:
    """The command, from the first moment on safe against signals."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)
    # Imports make many objects that stay, and looking through them again and again takes 8 ms of every start.
    gc.set_threshold(50_000)
    from hydraflow.cli import run

    code = run()
    # The interpreter's own last look through all of them takes 20 ms, for nothing.
    gc.freeze()
    sys.exit(code)


if __name__ == "__main__":
    main()
