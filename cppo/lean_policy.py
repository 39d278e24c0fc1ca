from cppo.fast.policy import LeanMlpPolicy  # noqa: D100, F401  model.zip files of old runs name it here
