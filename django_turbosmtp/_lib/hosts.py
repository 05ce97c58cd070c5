"""Recognizes the names and addresses of this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Return whether a host name or address certainly means this machine."""
    if host == "localhost":
        return True
    try:
        # Not ip_address(): it tries both classes, and its error has lost the cause.
        if ":" in host:
            return ipaddress.IPv6Address(host).is_loopback
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
