"""The commands of `simloop`, by what they are for. Each imports only what it needs, so that help comes at once."""
