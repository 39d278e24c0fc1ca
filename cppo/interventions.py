from cppo.remedies import *; from cppo.remedies import Remedy as Intervention  # noqa: D100, E702, F401, F403, I001  # fmt: skip
