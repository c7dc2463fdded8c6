"""JSON encoders of the writers. They are created once, because a catalogue encodes many small documents."""

from __future__ import annotations

from json import JSONEncoder

encode_compact = JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
"""Return compact JSON text. Raise ValueError for a number that is not finite."""

encode_ascii = JSONEncoder(separators=(",", ":")).encode
"""Return compact JSON text in ASCII."""

encode_readable = JSONEncoder().encode
"""Return JSON text in ASCII with spaces."""
