"""May this call run? Keys, fit, limits, the waiting line."""
