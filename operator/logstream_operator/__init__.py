"""LogStream's Kubernetes operator: one resource is a whole log platform."""
