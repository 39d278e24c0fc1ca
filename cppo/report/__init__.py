"""Trained agents evaluated, compared and filmed."""
