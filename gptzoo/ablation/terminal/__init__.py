"""Plans, outcomes and progress of an ablation as text in a terminal."""
