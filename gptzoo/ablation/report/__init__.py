"""The report of an ablation: a page that works anywhere, pictures and tables for a paper, a view of a running one."""
