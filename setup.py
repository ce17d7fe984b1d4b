"""What pyproject.toml cannot say: the book's own code is installed with a checkout (pip install -e .) and is in no wheel."""

import sys

from setuptools import find_packages, setup

library = find_packages(include=["advlab", "advlab.*"])
book = find_packages("book", include=["labbook", "labbook.*"])
setup(packages=library + (book if "editable_wheel" in sys.argv else []), package_dir={"labbook": "book/labbook"})
