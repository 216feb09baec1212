"""What a running server serves, and how that changes: its state, its versions, rollouts, and the API for all of it."""
