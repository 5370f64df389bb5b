"""Guest programs in the package, and the makers of a Debian guest."""
