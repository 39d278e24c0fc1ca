from stable_baselines3.common.buffers import RolloutBuffer as LeanRolloutBuffer  # noqa: D100, F401  for old model.zip
