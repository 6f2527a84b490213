"""Messages between the supervisor and its workers: JSON with its length in front. No pickle."""

import json
import struct
from typing import Any, BinaryIO

LENGTH = struct.Struct("<I")
LONGEST = 64 << 20  # bytes; more is not a message

Message = dict[str, Any]  # Any: JSON


def send(stream: BinaryIO, message: Message) -> None:
    """Write one message."""
    data = json.dumps(message).encode()
    stream.write(LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> Message | None:
    """Read one message; None: the other side has closed, or died in the middle of one."""
    head = stream.read(LENGTH.size)
    if len(head) < LENGTH.size:
        return None
    (length,) = LENGTH.unpack(head)
    if length > LONGEST:
        return None
    data = stream.read(length)
    return json.loads(data) if len(data) == length else None
