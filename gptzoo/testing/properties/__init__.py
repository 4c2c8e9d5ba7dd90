"""The properties of the conformance kit, grouped by subject."""
