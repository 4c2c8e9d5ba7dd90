"""The statistics of an ablation: contrasts, Holm's correction, power, verdicts, and sentences that state them."""
