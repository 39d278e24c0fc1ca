"""What trained agents can do: figures, tables and films."""
