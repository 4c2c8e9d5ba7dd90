"""Components that are right at toy sizes and default options, and wrong beyond them; one file per kind of fault."""
