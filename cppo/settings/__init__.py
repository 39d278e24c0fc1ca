"""A training run as data: its settings, their limits, and presets with their sources."""
