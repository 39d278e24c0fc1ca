"""Finds which weights feed and which read a hidden unit, by following the data through a module; knows torch alone."""
