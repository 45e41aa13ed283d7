"""What an analysis needs to have been measured."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from localize.errors import SignatureError, caller

if TYPE_CHECKING:
    from localize.signature.signature import MemorizationSignature


def require(signature: "MemorizationSignature", names: Mapping[str, str]) -> None:
    """Raise a `SignatureError` that names what to measure, unless the signature holds all these variables, of one model."""
    signature.one_model(caller())
    for name, measurement in names.items():
        if name not in signature:
            raise SignatureError(f"{caller()}: the signature has no {name!r}; measure it with {measurement}.")
