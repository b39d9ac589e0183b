"""What makes several nodes one broker."""
