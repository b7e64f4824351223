"""The machinery: what runs, checks and publishes the notebooks."""
