"""Looking inside a model: what its parts show of themselves when they are asked, as numbers, pictures and pages."""
