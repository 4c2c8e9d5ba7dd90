"""The spec of a parametrisation: how a model changes with its width."""
