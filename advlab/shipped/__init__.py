"""Data files that ship with the package; ``make.py`` made them."""
