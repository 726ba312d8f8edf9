"""The process around the pipeline: settings, logs, metrics, health, leadership, kopf and the wiring of it all."""
