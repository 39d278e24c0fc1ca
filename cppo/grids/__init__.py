"""Many training runs: a grid of settings, and what trains its runs on this machine or a cluster."""
