"""Continual backpropagation: generate-and-test on the hidden layers of any torch module; knows torch alone."""
