"""Runs of Online Permuted MNIST: online accuracy by tasks, and what becomes of the hidden units."""

from cppo.benchmarks.mnist.compiled_learner import CompiledLearner
from cppo.benchmarks.mnist.data import PermutedTasks, load_digits, without_black
from cppo.benchmarks.mnist.mnist_settings import MnistSettings
from cppo.benchmarks.mnist.single import TorchLearner
from cppo.benchmarks.plasticity_columns import measure_units
from cppo.benchmarks.problem import Problem, Row, one_by_one

SAMPLES = 2000


def train_one(settings: MnistSettings, seed: int) -> list[Row]:
    """Train one run: the rows of its tasks, each with the accuracy of predictions before their steps."""
    images, labels = load_digits(settings.data_dir)
    tasks = PermutedTasks(images, labels, settings.examples_per_task, seed)
    learner: CompiledLearner | TorchLearner
    if settings.is_compiled:
        learner = CompiledLearner(settings, seed, without_black(images, labels))
    else:
        learner = TorchLearner(settings, seed)
    rows = []
    for task in range(1, settings.tasks + 1):
        tasks.next()
        correct = learner.train(tasks, 0, settings.examples_per_task)
        row: Row = {"seed": seed, "task": task, "accuracy": 100 * correct / settings.examples_per_task}
        row |= {"replaced": learner.replaced}
        rows.append(row | measure_units(learner.current_network(), tasks.examples(0, SAMPLES)[0]))
    return rows


MNIST = Problem(
    name="mnist",
    summary="Online Permuted MNIST: a new permutation of the pixels every so many digits, each digit seen once",
    settings=MnistSettings,
    when="task",
    measure="accuracy",
    higher_is_better=True,
    panels=(),
    alike=lambda settings: settings,
    train=one_by_one(train_one),
)
