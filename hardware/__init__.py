"""Robot drivers: one folder each, found by name; the only home of vendor SDKs."""
