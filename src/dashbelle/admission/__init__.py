"""May this call run? Keys, fit, the waiting line."""
