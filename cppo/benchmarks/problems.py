"""The problems by name."""

from typing import Any

from cppo.benchmarks.images.run import IMAGES
from cppo.benchmarks.mnist.run import MNIST
from cppo.benchmarks.problem import Problem
from cppo.benchmarks.regression.run import REGRESSION

PROBLEMS: dict[str, Problem[Any]] = {problem.name: problem for problem in (REGRESSION, MNIST, IMAGES)}
