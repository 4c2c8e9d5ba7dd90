"""Optimizers, parameter groups, learning-rate schedules, EMA of the weights and loss scaling."""
