"""A training run on disk: its folder, its lock, its checkpoints, and how far it has come."""
