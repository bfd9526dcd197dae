"""Decisions without side effects: no I/O, no clock, no randomness; what a rule needs of these is an argument."""
