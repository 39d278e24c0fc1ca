"""PPO's update by formula and compiled loops: only faster, equal to rounding."""
