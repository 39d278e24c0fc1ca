"""Which remedies go together, by their names; knows nothing else of them, and no torch."""

from collections.abc import Iterable

CBP = "continual backpropagation"
REPLACING_UNITS = ("redo", "ccbp", CBP)
NORMS = ("layer-norm", "online-norm")
PULLS = ("l2", "regenerative")


def check_combination(names: Iterable[str]) -> None:
    """Check that remedies, of which continual backpropagation may be one, go together.

    :raises ValueError: names the two that don't, and why
    """
    given = set(names)
    for group, why in (
        (REPLACING_UNITS, "each replaces units in its own way"),
        (NORMS, "one normalisation is enough"),
        (PULLS, "they pull the same weights to different places"),
    ):
        if len(both := [name for name in group if name in given]) > 1:
            raise ValueError(f"{both[0]} and {both[1]} can't be combined: {why}")
    if "crelu" in given and (others := [name for name in REPLACING_UNITS if name in given]):
        raise ValueError(
            f"crelu and {others[0]} can't be combined: a unit with two features has no one mean and no one utility"
        )
