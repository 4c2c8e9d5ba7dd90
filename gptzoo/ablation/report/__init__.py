"""The report of an ablation: an HTML page, figures and tables, written to files or served while the ablation runs."""
