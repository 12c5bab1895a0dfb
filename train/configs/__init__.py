"""Training configurations, one YAML a model."""
