"""One training run at work: its agent, its environments, its sessions, its state."""
