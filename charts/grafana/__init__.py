"""The dashboards that the chart ships, one file each."""
