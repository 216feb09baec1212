"""RadServe on AWS: plans, applies, shows and destroys the CloudFormation stacks of an environment."""
