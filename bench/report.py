"""What the benches share: results as numbers of six digits."""

from __future__ import annotations

from typing import Any


def rounded(value: Any) -> Any:
    """``value`` with every float in it, at any depth, to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
