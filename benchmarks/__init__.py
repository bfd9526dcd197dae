"""hydraflow against its peers: CPU, time and memory, in interleaved rounds on loopback. See README.md beside this."""

__all__ = ["BenchmarkError"]


class BenchmarkError(Exception):
    """What was asked for cannot be measured here; the message says why."""
