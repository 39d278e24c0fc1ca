"""A training run on disk: its settings, its folder, and how it is trained."""
