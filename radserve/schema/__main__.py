"""Writes the JSON Schema of all documents to standard output."""

import json
import sys

from radserve.schema.json_schema import json_schema

if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    sys.stdout.write("\n")
