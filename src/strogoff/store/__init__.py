"""What the control plane does about the store: opens it, backs it up, restores it. The store itself is the engine's."""
