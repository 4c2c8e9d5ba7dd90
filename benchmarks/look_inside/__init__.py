"""The measurements and figures of docs/look-inside.md, for SmolLM2-135M or another model."""
