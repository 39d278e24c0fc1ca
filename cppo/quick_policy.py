from cppo.fast.quick_policy import QuickMlpPolicy  # noqa: D100, F401  model.zip files made before 2026-12 name it here
