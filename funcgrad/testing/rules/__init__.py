"""What each JAX primitive computes, a family of primitives to a file."""
