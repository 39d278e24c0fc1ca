"""The experiments of docs/evidence.md: trains them, keeps their figures, prints the tables."""
