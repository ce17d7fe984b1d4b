"""The numbers of Xiao et al. (2019) that chapter 3 stands beside.

Two sources. All rows with the RS loss but that of 0.2 are quoted, digit by digit, in the code of a later work (Jia and Rinard
2020). The rest of the tables we did not find in a text that we could read: it has the sign of unconfirmed numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from ..entries import UNCONFIRMED

QUOTED = "Xiao et al. (2019), as quoted by Jia and Rinard (2020)"
TABLES = f"Xiao et al. (2019), tables {UNCONFIRMED}"


class Row(NamedTuple):
    """Shares in [0, 1] and mean seconds of the solver; None where we have no number."""

    label: str
    test: float | None
    pgd: float | None
    provable: float | None
    upper: float | None
    seconds: float | None


#: MNIST, linf 0.1, small network: what each lever adds.
ABLATION = {
    "adversarial": Row("adversarial training", 0.9917, None, 0.1900, None, 2970.43),
    "l1": Row("+ L1", 0.9900, None, 0.8217, None, 21.99),
    "small": Row("+ small weights pruned", 0.9899, None, 0.8913, None, 11.71),
    "control": Row("+ ReLUs pruned", 0.9894, None, 0.9158, None, 6.43),
    "rs": Row("+ RS loss", 0.9868, 0.9513, 0.9433, 0.9438, 0.49),
}

#: Our controls, which the paper does not have.
NARROW = Row("built narrow, both prunings", None, None, None, None, None)
NARROW_L1 = NARROW._replace(label="built narrow, L1, both prunings")

#: The row with the RS loss elsewhere: data set and budget, the numbers, where they stand.
OTHERS = {
    "rs_02": ("MNIST, linf 0.2", Row("+ RS loss", 0.9810, 0.9314, 0.8979, None, 1.13), TABLES),
    "rs_03": ("MNIST, linf 0.3", Row("+ RS loss", 0.9733, 0.9205, 0.8068, 0.8170, 2.78), QUOTED),
    "cifar_2": ("CIFAR-10, linf 2/255", Row("+ RS loss", 0.6112, 0.4992, 0.4593, 0.4779, 13.50), QUOTED),
    "cifar_8": ("CIFAR-10, linf 8/255", Row("+ RS loss", 0.4045, 0.2678, 0.2027, 0.2274, 22.33), QUOTED),
}
