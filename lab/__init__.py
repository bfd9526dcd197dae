"""Real servers on loopback, test data and certificates, shared by the demo, the tests and the benchmarks."""
