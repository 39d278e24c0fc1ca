from cppo.fast.lean_policy import LeanMlpPolicy  # noqa: D100, F401  model.zip files made before 2026-12 name it here
