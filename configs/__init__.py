"""What a user can state: pydantic models and the YAML files that ship with the package."""
