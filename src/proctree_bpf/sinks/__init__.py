"""Events and the tree, as text: one format a file."""
