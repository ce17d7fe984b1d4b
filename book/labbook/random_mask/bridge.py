"""Tables that join two chapters: our numbers and their intervals, all from the manifest."""

from __future__ import annotations

from ..relu_stability.tables import sweep_row, sweep_table
from ..tables import Grid
from .bridge_claims import DROPS


def bridge_table() -> Grid:
    """Masks and as much pruning before chapter 3's verifier, beside training for stability, by units and seconds."""
    rows = [sweep_row(id, label) for id, label in (("sweep_plain", "no masks"), ("sweep_plain_rs", "RS loss"))]
    for key, drop in DROPS.items():
        rows.append(sweep_row(f"verified_{key}", f"masks, drop {drop:g}", "random_mask"))
        rows.append(sweep_row(f"verified_{key}_pruned", "as many ReLUs pruned", "random_mask"))
    return sweep_table(rows)
