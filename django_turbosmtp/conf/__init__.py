"""Reads and checks ``settings.TURBOSMTP``."""
