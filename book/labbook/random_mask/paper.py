"""The numbers of Luo et al. (2018) that chapter 4 stands beside: shares in [0, 1], accuracies of the defended network.

Their networks have a width of 64 where ours has 16, and they train for 350 epochs and keep the best on the test set.
"""

from __future__ import annotations

from typing import NamedTuple

PAPER = "Luo et al. (2018)"

#: Columns of Table 8: attacks of the source, budgets of 255 except for the last, whose confidence it is.
ATTACKS = ("FGSM 8", "FGSM 16", "PGD 16", "PGD 32", "CW 40")


class Transferred(NamedTuple):
    """A row of Table 8, source DenseNet-121, in the order of :data:`ATTACKS`; then the accuracy on clean images."""

    attacked: tuple[float, ...]
    test: float


#: Table 8 by our names of the networks.
TABLE_8 = {
    "plain": Transferred((0.2978, 0.1491, 0.0296, 0.0226, 0.0823), 0.9533),
    "50": Transferred((0.6687, 0.3086, 0.2650, 0.1033, 0.5402), 0.9339),
    "70": Transferred((0.7950, 0.4857, 0.4776, 0.2139, 0.7370), 0.9183),
    "90": Transferred((0.9408, 0.7993, 0.8308, 0.5502, 0.8967), 0.8768),
    "50_deep": Transferred((0.2501, 0.1076, 0.0257, 0.0452, 0.0719), 0.9494),
    "50_shared": Transferred((0.7730, 0.4886, 0.4404, 0.1981, 0.7207), 0.9257),
    "50_narrow": Transferred((0.3639, 0.1215, 0.0468, 0.0405, 0.1272), 0.9497),
}

#: Accuracy under PGD 16 from each kind of source: the paper's table, its source, our names of the targets.
SOURCES = {
    "densenet": ("Table 8", "DenseNet-121", {key: row.attacked[ATTACKS.index("PGD 16")] for key, row in TABLE_8.items()}),
    "resnet": ("Table 9", "ResNet-18", {"plain": 0.0142, "50": 0.1846, "70": 0.3961, "90": 0.8170}),
    "cnn": ("Table 12", "VGG-19", {"plain": 0.0988, "50": 0.2227, "70": 0.3966, "90": 0.8165}),
}

#: Table 6, white box: FGSM of 1, 2, 4 and PGD of 2, 4, 8 of 255.
WHITE_BOX = ("FGSM 1", "FGSM 2", "FGSM 4", "PGD 2", "PGD 4", "PGD 8")
TABLE_6 = {
    "plain": (0.8124, 0.6578, 0.5124, 0.2426, 0.0340, 0.0002),
    "50": (0.8522, 0.6865, 0.5204, 0.4235, 0.0911, 0.0042),
    "70": (0.8570, 0.6969, 0.5451, 0.4930, 0.1988, 0.0328),
}

#: Table 7, gray box, FGSM 16: source -> target -> accuracy. A source of the same kind has other masks and another seed.
TABLE_7 = {
    "plain": {"plain": 0.1391, "50": 0.2891, "70": 0.4823},
    "50": {"plain": 0.2090, "50": 0.1937, "70": 0.3177},
    "70": {"plain": 0.2842, "50": 0.2211, "70": 0.2354},
}

#: Table 1, the setting of Madry et al.: FGSM and PGD (7 steps of 2) of 8 of 255 from a network without masks, then clean.
#: Its masked network drops 0.85, ours 0.9.
TABLE_1 = {
    "plain": (0.2699, 0.0756, 0.9533),
    "adversarial": (0.8560, 0.8600, 0.8730),
    "90": (0.8631, 0.9030, 0.9008),
}
