"""RadServe on AWS: stacks of deploy/aws/ planned, applied, looked at and taken down."""
