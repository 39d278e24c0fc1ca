from cppo.remedies import *  # noqa: D100, F403  the earlier name of cppo.remedies
