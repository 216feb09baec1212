"""Web page, application API and result history in front of a model server. Speaks HTTP to it and loads no torch."""
