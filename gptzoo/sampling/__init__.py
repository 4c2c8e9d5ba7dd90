"""From a trained model to text: what to do with logits, and the loop that feeds tokens back."""
