"""hydraflow against its peers: CPU, time and memory, in interleaved rounds on loopback. See README.md beside this."""
