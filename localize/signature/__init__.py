"""The memorization signature: what every measurement emits and every figure draws."""

from localize.measurements import REGISTRY, Variable, register
from localize.signature.signature import MemorizationSignature, load_signature

__all__ = ["REGISTRY", "MemorizationSignature", "Variable", "load_signature", "register"]
