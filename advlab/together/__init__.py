"""Chapter 5: all defences against all attacks, proofs about squeezed inputs, and what joins two papers."""

from .certificates import needed_lead, reachable, verify_one_bit, verify_squeezed

__all__ = ["needed_lead", "reachable", "verify_one_bit", "verify_squeezed"]
