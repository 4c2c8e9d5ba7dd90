"""Inspection of models: attention maps, logit lens, module graph and differences between specs."""
