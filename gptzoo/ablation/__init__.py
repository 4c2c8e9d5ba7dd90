"""Ablations: variants of a run, trained with several seeds each and compared statistically."""
