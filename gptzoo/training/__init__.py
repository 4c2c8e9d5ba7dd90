"""The trainer that runs any assembled variant, and what it is made of."""
