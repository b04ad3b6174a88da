"""What happened: operations, events, snapshots and sessions as plain data. No torch, no screen."""
