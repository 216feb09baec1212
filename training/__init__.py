"""Training, tuning and evaluation of models; uses the pipeline of `handlers`, so training and serving agree."""
