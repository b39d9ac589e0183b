"""HTTP: what a node tells monitors and orchestrators. Listeners, the server behind them, and the modules they serve."""
