"""Hints for fields that a spec does not have: the line to write instead."""
