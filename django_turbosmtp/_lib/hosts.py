"""Recognizes the names and addresses of this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host name or address certainly means this machine."""
    if host == "localhost":
        return True
    try:
        # ip_address() is not used: its error hides an exception of a signal handler.
        if ":" in host:
            return ipaddress.IPv6Address(host).is_loopback
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
