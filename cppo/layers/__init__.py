"""Which weights feed and read a hidden unit, found by following the data through a module; knows torch alone."""
