"""Properties of building a component and combining it with others."""
