"""The plugins that come with the broker, one module each."""
