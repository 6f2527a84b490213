"""Report the state of the service to systemd, when systemd started it."""

import os
import socket


def notify(message: str) -> bool:
    """Send one message (`READY=1`, `STOPPING=1`, `STATUS=…`); False when nobody listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):  # Linux's abstract names
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        try:
            out.sendto(message.encode(), address)
        except OSError:
            return False
    return True
