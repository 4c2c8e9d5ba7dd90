"""The main claims of the papers behind the components, tried at a small size. See `docs/claims.md`."""
