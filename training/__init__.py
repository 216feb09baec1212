"""Networks, data sets, training and its figures; imports `handlers`, so that training sees what serving sees."""
