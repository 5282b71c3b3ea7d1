"""What a node tells monitoring systems over HTTP: /metrics, /healthz and /readyz."""
