"""Computing with shapes and without values, without an import of torch's compiler."""
