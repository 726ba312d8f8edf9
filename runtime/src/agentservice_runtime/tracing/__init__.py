"""Traces, where `spec.observability` names a collector or Logfire. Only `start` imports OpenTelemetry's SDK, and only then."""
