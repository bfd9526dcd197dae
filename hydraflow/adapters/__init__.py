"""The thin shells around the core: network, disk, pipes. Each maps foreign errors once, at its border."""

import sys

# httpx imports its own command line wherever rich, click and pygments are installed, and that takes 30 ms.  With that
# module barred it goes on without, as where they are missing; should it be renamed one day, only the 30 ms come back.
if "httpx" not in sys.modules:
    sys.modules["httpx._main"] = None  # type: ignore[assignment]
    import httpx  # noqa: F401

    del sys.modules["httpx._main"]
