"""Loop between a PACS and a server: receives images, has them analysed, stores the results (docs/pacs.md)."""
