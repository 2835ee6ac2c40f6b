"""The rules over definitions, a module for each family; `catalogue` lists them all."""
