"""Reasons to doubt a comparison: one function for each, all of which return records of `ComparisonWarning`."""
