"""Which hosts are this machine."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        # Not ip_address(), which tries both and tells nothing of what stopped it.
        if ":" in host:
            return ipaddress.IPv6Address(host).is_loopback
        return ipaddress.IPv4Address(host).is_loopback
    except ValueError:
        return False
