"""What exists: step folders, attempts and leases, as plain files."""
