"""How a node finds its cluster by itself: where peers may be, who they are, and what that means for this node."""
