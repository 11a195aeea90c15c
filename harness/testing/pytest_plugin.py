"""pytest plugin of the contract kit."""
