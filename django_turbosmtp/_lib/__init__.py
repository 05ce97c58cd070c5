"""Helpers without a subject of their own: versions, secrets, threads, logging, text."""
