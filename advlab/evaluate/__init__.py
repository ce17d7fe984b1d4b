"""How often a network is right, under attack or not, how sure that number is, and whether it can be believed."""

from .curves import security_curve as security_curve
from .measures import clopper_pearson as clopper_pearson
from .measures import distances as distances
from .measures import first_correct as first_correct
from .measures import mean_interval as mean_interval
from .measures import median_interval as median_interval
from .measures import predict as predict
from .robustness import FLAGS as FLAGS
from .robustness import Attack as Attack
from .robustness import Flag as Flag
from .robustness import RobustAccuracy as RobustAccuracy
from .robustness import Transfer as Transfer
from .robustness import robust_accuracy as robust_accuracy
from .robustness import transfer_matrix as transfer_matrix
from .robustness import transferable as transferable
