"""Who should meet whom when everybody's attention is limited: equilibrium prices, and lists that meet in time."""
