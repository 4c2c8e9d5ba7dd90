"""New plugin packages, from one template for each kind of component."""
