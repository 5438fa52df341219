"""Our solvers for benchopt, an outside judge: see README.md in this folder."""
