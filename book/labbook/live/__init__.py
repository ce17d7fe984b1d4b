"""Figures that move without a kernel.

A live figure is an anywidget whose arithmetic runs in the page, so that the same figure works in JupyterLab (where its
values also reach the kernel) and on the static page of the book, offline. Each carries a sentence that describes it
(``alt``) and a still picture for places where no script runs. What needs torch is made by :func:`with_kernel`: controls in
JupyterLab, and on the static page the recorded picture with a sentence that says so.
"""

from .caps import CapTradeoff, Concentration
from .crown_steps import BackwardStep, CrownSteps
from .detection import DetectorScores, EvasionCurve
from .figure import Figure, Still, with_kernel
from .gallery import DigitAttack, LinearShift, linear_shift
from .masking import BlindTest, MaskedMaps
from .network import pack_network
from .pixel_steps import PixelSteps
from .spheres import AlphaSpectrum, IgnoredInputs
from .splitting import SplittingAnimation
from .squeezing import ColourSqueeze, SqueezeDigit
from .stability import StabilityLoss
from .stability_records import Race, SettlingUnits
from .tightness import Tightness, mean_widths
from .together import AllAgainstAll
from .two_inputs import BoxAnswer, BranchAndBound, TwoInputs

__all__ = [
    "AllAgainstAll",
    "AlphaSpectrum",
    "BackwardStep",
    "BlindTest",
    "BoxAnswer",
    "BranchAndBound",
    "CapTradeoff",
    "ColourSqueeze",
    "Concentration",
    "CrownSteps",
    "DetectorScores",
    "DigitAttack",
    "EvasionCurve",
    "Figure",
    "IgnoredInputs",
    "LinearShift",
    "MaskedMaps",
    "PixelSteps",
    "Race",
    "SettlingUnits",
    "SplittingAnimation",
    "SqueezeDigit",
    "StabilityLoss",
    "Still",
    "Tightness",
    "TwoInputs",
    "linear_shift",
    "mean_widths",
    "pack_network",
    "with_kernel",
]
