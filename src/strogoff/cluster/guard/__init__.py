"""The join guard: what this node holds that a cluster does not know, and what joining would do with it."""
