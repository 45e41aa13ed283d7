"""Random draws keyed by what they are for, so that batches, shards and resumed runs draw alike."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float


def keyed_integer(below: int, *key: int | bytes | str) -> int:
    """An integer in `0 .. below - 1` that follows from the key alone, uniform over keys.

    Args:
        below: Exclusive upper bound, at most 2^32: the bias of the remainder is then under 2^-32.
        key: What the draw is for: seed, paragraph hash, position, draw, ....

    Returns:
        The same integer for the same key, on every machine.
    """
    return int.from_bytes(hashlib.blake2b(_bytes(key), digest_size=8).digest(), "little") % below


def keyed_uniforms(count: int, *key: int | bytes | str) -> "Float[np.ndarray, ' count']":
    """Independent numbers in [0, 1) that follow from the key alone, in steps of 2^-32; the first ones are the same for any count.

    Args:
        count: How many.
        key: What they are for.
    """
    import numpy as np

    drawn = hashlib.shake_256(_bytes(key)).digest(4 * count)
    return np.frombuffer(drawn, dtype="<u4") / 2.0**32


def _bytes(key: tuple[int | bytes | str, ...]) -> bytes:
    return b"\x1f".join(part if isinstance(part, bytes) else str(part).encode() for part in key)
