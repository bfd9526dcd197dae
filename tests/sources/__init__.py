"""Digests that are published elsewhere than in the answer."""
