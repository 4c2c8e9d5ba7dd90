"""Weights prepared for inference: bfloat16, int8 and blocked layouts."""
