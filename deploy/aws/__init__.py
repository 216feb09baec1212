"""Developer tools for AWS. They read the checkout, so they are not part of the wheel."""
