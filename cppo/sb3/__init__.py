"""Continual backpropagation in the algorithms of stable-baselines3."""
