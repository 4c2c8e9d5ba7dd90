"""The properties of the conformance kit, grouped by what they check."""
