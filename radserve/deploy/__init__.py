"""RadServe on AWS: stacks of radserve/deploy/templates/ planned, applied, looked at and taken down."""
