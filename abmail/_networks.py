"""Addresses, and the network that one belongs to."""

from __future__ import annotations

import ipaddress
from typing import Final

__all__ = ["address_of", "neighbourhood_of"]

_SAYS_NOTHING: Final = tuple(
    ipaddress.ip_network(each)
    for each in (
        "127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10", "0.0.0.0/8",
        "::1/128", "::/128", "fc00::/7", "fe80::/10",
    )
)  # fmt: skip
"""Addresses of this machine and of inner networks: behind a proxy that hides the readers, all seem to come from one."""
_BYTES: Final = {str(value): value for value in range(256)}
_SILENT: Final = frozenset(
    divmod((int(network.network_address) >> 16) + step, 256)
    for network in _SAYS_NOTHING
    if network.version == 4
    for step in range(1 << (16 - network.prefixlen))
)
"""The first two bytes of those of IPv4; none of these networks is smaller."""


def address_of(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """An address, of IPv4 where it is one in the clothes of IPv6; None for what is none."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return None
    return (isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped) or found


def neighbourhood_of(address: str) -> bytes | None:
    """The network of an address: its first 24 bits, or 48 of IPv6; None for what is no address of a reader.

    >>> neighbourhood_of("203.0.113.77") == neighbourhood_of("203.0.113.1")
    True
    >>> neighbourhood_of("127.0.0.1") is None
    True
    """
    try:
        first, second, third, _ = [_BYTES[each] for each in address.split(".")]
    except (KeyError, ValueError):  # not an address of IPv4; the ipaddress module takes ten times as long
        pass
    else:
        return None if (first, second) in _SILENT else bytes((first, second, third))
    found = address_of(address)
    if found is None or any(found in network for network in _SAYS_NOTHING):
        return None
    return found.packed[: 3 if found.version == 4 else 6]
