"""Clients that are no program of their own, as scripts."""
