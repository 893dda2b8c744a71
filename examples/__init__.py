"""The Sobolev loss inside agents that are not ours; examples/README.md says how to run them."""
