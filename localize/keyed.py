"""Random draws keyed by what they are for, so that batches, shards and resumed runs draw alike."""

import hashlib


def keyed_integer(below: int, *key: int | bytes | str) -> int:
    """An integer in `0 .. below - 1` that follows from the key alone, uniform over keys.

    Args:
        below: Exclusive upper bound, at most 2^32: the bias of the remainder is then under 2^-32.
        key: What the draw is for: seed, paragraph hash, position, draw, ....

    Returns:
        The same integer for the same key, on every machine.
    """
    parts = (part if isinstance(part, bytes) else str(part).encode() for part in key)
    digest = hashlib.blake2b(b"\x1f".join(parts), digest_size=8).digest()
    return int.from_bytes(digest, "little") % below
