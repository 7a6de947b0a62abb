"""The header of a record's bytes; ``record_format`` says what its parts mean."""

from __future__ import annotations

import struct

from flask_idempotent.records import FINGERPRINT_SIZE, OWNER_SIZE

VERSION = 1
IN_PROGRESS, HELD, COMPLETED, RELEASED = b"p", b"h", b"c", b"r"

HEADER = struct.Struct(f">BcQII{OWNER_SIZE}s{FINGERPRINT_SIZE}sII")
#: Length of the header, in bytes.
HEADER_SIZE = HEADER.size
#: Where the header has its parts.
STATE, GRACE, ATTEMPT, OFFER = slice(1, 2), slice(2, 10), slice(10, 14), slice(14, 18)
OWNER, FINGERPRINT, FIRST_ATTEMPT = slice(18, 34), slice(34, 50), slice(50, 54)
DIED = slice(54, 58)

#: How many of a record's first bytes ``decode_summary`` needs.
HEAD_SIZE = 1024
