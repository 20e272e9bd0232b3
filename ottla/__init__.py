"""Ottla: a replicated log broker. Public names are loaded when they are first used, so `import ottla` is cheap."""
