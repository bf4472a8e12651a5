"""Push: what notifications and messages mean for people's devices, and the providers that reach them."""
