"""Measurements of gptzoo beside its peers. `python -m benchmarks --help` describes the command.

A subject is a module in this folder with a function `cases(options)`, which yields a `benchmarks.harness.case.Case` for
each comparison. The first line of its docstring is its title. The runner checks each case, times its sides in turns,
and writes the results. Other scripts in this folder train models, and print JSON of their own.
"""
