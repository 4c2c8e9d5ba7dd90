"""The statistics of an ablation: contrasts, multiple comparisons, power and verdicts."""
